//! Whether an address is on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Whether every one of `vips` is an address of this machine; true when there is none.
pub fn holds(vips: &[IpAddr]) -> bool {
    vips.iter().all(|vip| is_local(*vip))
}

/// Whether packets to `address` are delivered here.
///
/// A socket can be bound to just these addresses. Where the kernel is told to let any address be bound, as standby
/// machines often are (`ip_nonlocal_bind`), its own lists are read instead.
fn is_local(address: IpAddr) -> bool {
    if UdpSocket::bind((address, 0)).is_err() {
        return false;
    }
    let (switch, list) = match address {
        IpAddr::V4(_) => ("/proc/sys/net/ipv4/ip_nonlocal_bind", "/proc/net/fib_trie"),
        IpAddr::V6(_) => ("/proc/sys/net/ipv6/ip_nonlocal_bind", "/proc/net/if_inet6"),
    };
    let is_free = std::fs::read_to_string(switch).is_ok_and(|value| value.trim() == "1");
    if !is_free || address.is_loopback() {
        return true;
    }
    let list = std::fs::read_to_string(list).unwrap_or_default();
    match address {
        IpAddr::V4(address) => is_in_fib_trie(&list, address),
        IpAddr::V6(address) => is_in_if_inet6(&list, address),
    }
}

/// In `/proc/net/fib_trie` the line after `|-- 192.0.2.1` tells `/32 host LOCAL` of an address of this machine.
fn is_in_fib_trie(list: &str, address: Ipv4Addr) -> bool {
    let mut current = None;
    for line in list.lines().map(str::trim) {
        if let Some(node) = line.strip_prefix("|-- ") {
            current = node.parse::<Ipv4Addr>().ok();
        } else if current == Some(address) && line == "/32 host LOCAL" {
            return true;
        }
    }
    false
}

/// Lines of `/proc/net/if_inet6` begin with an address of 32 hexadecimal digits.
fn is_in_if_inet6(list: &str, address: Ipv6Addr) -> bool {
    let digits = format!("{:032x}", u128::from(address));
    list.lines().any(|line| line.split_ascii_whitespace().next() == Some(digits.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_here_and_documentation_addresses_are_not() {
        assert!(holds(&[]));
        assert!(holds(&[IpAddr::from([127, 0, 1, 10])]));
        assert!(!holds(&[IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 0, 2, 1])]));
    }

    #[test]
    fn local_addresses_are_found_in_the_kernels_lists() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 192.0.2.0\n        /24 link UNICAST\n     |-- 192.0.2.7\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        assert!(is_in_fib_trie(trie, Ipv4Addr::new(192, 0, 2, 7)));
        for other in [0, 8, 255] {
            assert!(!is_in_fib_trie(trie, Ipv4Addr::new(192, 0, 2, other)));
        }
        let list = "20010db8000000000000000000000010 02 40 00 80 eth0\n";
        assert!(is_in_if_inet6(list, "2001:db8::10".parse().expect("an address")));
        assert!(!is_in_if_inet6(list, "2001:db8::1".parse().expect("an address")));
    }
}

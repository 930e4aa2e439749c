//! Networks that lie in one another, made into runs.

use ipnet::IpNet;

use super::coded::{Coded, CodedRuns, Coder};
use super::partition::Bits;

/// The runs in which each address has the value of the longest network that holds it, or 0; no network occurs twice.
pub(super) fn prefixes(networks: impl IntoIterator<Item = (IpNet, u32)>) -> CodedRuns {
    let (mut v4, mut v6): (Vec<Prefix<u32>>, Vec<Prefix<u128>>) = Default::default();
    for (network, value) in networks {
        match network {
            IpNet::V4(net) => v4.push((net.network().into(), net.prefix_len(), value)),
            IpNet::V6(net) => v6.push((net.network().into(), net.prefix_len(), value)),
        }
    }
    CodedRuns { v4: longest_match(v4), v6: longest_match(v6) }
}

/// A network as numbers: its first address, its prefix length, and what it stands for.
type Prefix<A> = (A, u8, u32);

/// The runs in which each address has the value of the longest of `prefixes` that holds it, or 0.
///
/// No prefix may occur twice.
fn longest_match<A: Bits>(mut prefixes: Vec<Prefix<A>>) -> Coded<A> {
    prefixes.sort_unstable_by_key(|&(start, len, _)| (start, len));
    let mut cuts: Vec<(A, u32)> = Vec::with_capacity(2 * prefixes.len());
    // Prefixes that hold the address reached, the longest last: prefixes nest or are apart, they never just overlap.
    let mut open: Vec<(A, u32)> = Vec::new();
    let close = |open: &mut Vec<(A, u32)>, cuts: &mut Vec<(A, u32)>, before: Option<A>| {
        while let Some((last, _)) = open.pop_if(|&mut (last, _)| before.is_none_or(|before| last < before)) {
            let outer = open.last().map_or(0, |&(_, value)| value);
            cuts.extend(last.after().map(|next| (next, outer)));
        }
    };
    for (start, len, value) in prefixes {
        close(&mut open, &mut cuts, Some(start));
        cuts.push((start, value));
        open.push((start.ceil(A::LEN - len), value));
    }
    close(&mut open, &mut cuts, None);
    let mut runs = Coder::default();
    // Of several cuts at one address the last counts.
    cuts.into_iter().for_each(|(start, value)| runs.push(start, value));
    runs.finish()
}

# Sourced by tests/run, tests/bench/run and tests/bench/proxy.

# Installs the Debian packages "$@" without starting a service: a name server's would take port 53 of this machine.
install_packages() {
    local as_root=() policy=/usr/sbin/policy-rc.d service
    if [ "$(id -u)" != 0 ]; then
        as_root=(sudo -n)
    fi
    if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
        echo "these Debian packages are needed, and root to install them: $*" >&2
        return 1
    fi
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
        # shellcheck disable=SC2064  # The words are meant as they are now.
        trap "${as_root[*]} rm -f $policy" EXIT
    fi
    local services=() service
    for service in {unbound,gdnsd,knot,nsd,pdns,named,kresd@1,kres-cache-gc,pdns-recursor,haproxy,nginx,keepalived}.service certbot.timer; do
        # One that was there before is the operator's.
        systemctl cat "$service" >/dev/null 2>&1 || services+=("$service")
    done
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    if [ -d /run/systemd/system ]; then
        # Nor at the next start of the machine.
        for service in "${services[@]}"; do
            if systemctl cat "$service" >/dev/null 2>&1; then
                "${as_root[@]}" systemctl disable --now --quiet "$service" || true
            fi
        done
    fi
}

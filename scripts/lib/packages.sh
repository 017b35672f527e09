# Sourced by the scripts: install missing Debian packages.

install_packages() {
	missing=
	for package in "$@"; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $package"
	done
	[ -n "$missing" ] || return 0
	if [ "$(id -u)" -ne 0 ]; then
		echo "$0: error: packages are missing:$missing" >&2
		echo "$0: hint: run this script as root, or: apt-get install$missing" >&2
		return 1
	fi
	echo "installing:$missing" >&2
	# A server package would start its service on the machine's own port. Nothing here needs that.
	policy=/usr/sbin/policy-rc.d
	[ -e "$policy" ] && policy= || printf '#!/bin/sh\nexit 101\n' >"$policy"
	[ -z "$policy" ] || chmod 755 "$policy"
	status=0
	log=$(mktemp)
	{ apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing; } \
		>"$log" 2>&1 </dev/null || status=$?
	[ -z "$policy" ] || rm -f "$policy"
	[ "$status" -eq 0 ] || cat "$log" >&2
	rm -f "$log"
	return "$status"
}

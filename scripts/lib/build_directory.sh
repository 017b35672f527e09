# Sourced by the scripts: make build/ in the tree "$1".

# After sudo it belongs to the owner of the tree, who goes on without root.
make_build_directory() {
	mkdir -p "$1/build" || return 1
	[ "$(id -u)" -ne 0 ] || chown -h --reference="$1" "$1/build"
}

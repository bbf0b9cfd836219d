#!/bin/sh
# Runs inside the container where packages are installed, as root. What to do stands in files beside this script:
#   sources        "<suite> <pin priority>" a line: suites beside the image's own
#   apt.conf       options for apt
#   packages       "<name>=<version>" a line: everything this layer installs
#   without        "<name>" a line: packages that others ask for, and that must not be in an image
#   user           "<name> <uid> <gid> <home>", or empty
#   directories    "<octal mode> <path>" a line, owned by the user
#   remove         "<path>" a line: what packages leave behind that must not be in an image
#   layers/<name>  (resolve) the packages asked for, "layers/<name>.without" as above, "base/<name>" the layer below
#   mirror         (changed) the mirror that packages should come from, or empty
# usage: install.sh install | resolve NAME... | changed
set -eu
here=$(dirname "$0")
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 APT_CONFIG="$here/apt.conf"

add_sources() {
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources 2>/dev/null | grep -v '^#' | grep -oE '[a-z]+://[^ ]+' | head -n 1)
    while read -r suite priority; do
        echo "deb $mirror $suite main" > "/etc/apt/sources.list.d/extra-$suite.list"
        printf 'Package: *\nPin: release n=%s\nPin-Priority: %s\n' "$suite" "$priority" > "/etc/apt/preferences.d/extra-$suite"
    done < "$here/sources"
    apt-get update -q
}

remove_sources() {
    rm -f /etc/apt/sources.list.d/extra-* /etc/apt/preferences.d/extra-*
}

add_user() {
    read -r name uid gid home < "$here/user" || return 0
    groupadd --gid "$gid" "$name"
    useradd --uid "$uid" --gid "$gid" --home-dir "$home" --no-create-home --shell /usr/sbin/nologin "$name"
}

# While apt works, each package that is left out stands in dpkg's list, of the version that the mirror has, on hold, with no files and
# needing nothing. What is said on a list of such packages is to be added to dpkg's; what is there already stays as it is.
stand_ins() {
    sed -n 's/^Package: //p' /var/lib/dpkg/status | grep -vxFf - "$1" > /tmp/standing-in || return 0
    # shellcheck disable=SC2046  # one word a package
    apt-cache show --no-all-versions $(cat /tmp/standing-in) | sed -nE \
        -e 's/^Package: .*/&\nStatus: hold ok installed\nDescription: stands in for one that is left out/p' \
        -e '/^(Version|Architecture|Multi-Arch|Provides|Maintainer): /p' -e '/^$/p'
}

# No service is started, whatever a package's scripts ask for.
install_packages() {
    stand_ins "$here/without" >> /var/lib/dpkg/status
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    # shellcheck disable=SC2046  # one word a package
    apt-get install -q --yes --no-install-recommends --allow-downgrades $(cat "$here/packages")
    rm /usr/sbin/policy-rc.d
    [ ! -s /tmp/standing-in ] || xargs dpkg --purge --force-depends < /tmp/standing-in
}

# Identities and keys that are made at installation would be the same in every container.
remove_identities() {
    while read -r path; do
        rm -rf -- "$path"
    done < "$here/remove"
    rm -rf /etc/ssl/private/ssl-cert-snakeoil.key /etc/ssl/certs/ssl-cert-snakeoil.pem /var/lib/dbus/machine-id
    : > /etc/machine-id
    rm -f /var/cache/debconf/*-old /var/cache/debconf/passwords.dat
    find /var/log /tmp /var/cache/ldconfig -type f -delete
}

make_directories() {
    while read -r mode path; do
        install -d -o "$uid" -g "$gid" -m "$mode" "$path"
        chown -R "$uid:$gid" "$path"
    done < "$here/directories"
}

# For each layer, in order: what apt would install for it over nothing but the suite's smallest system, given the layer below.
resolve() {
    mkdir -p "$here/resolved"
    for layer in "$@"; do
        below=/dev/null
        [ ! -e "$here/base/$layer" ] || below="$here/resolved/$(cat "$here/base/$layer")"
        { cat /var/lib/dpkg/status; stand_ins "$here/layers/$layer.without"; } > "$here/status"
        # shellcheck disable=SC2046
        apt-get install -q --yes --no-install-recommends --no-remove --simulate -o Dir::State::status="$here/status" $(cat "$below" "$here/layers/$layer") > "$here/simulated"
        sed -nE 's/^Inst ([^ ]+) (\[[^]]*\] )?\(([^ ]+) .*/\1=\3/p' "$here/simulated" | sort > "$here/resolved/$layer"
        echo "resolved $layer"
        sort -u "$here/resolved/$layer" | grep -vxFf "$below" || true
    done
}

# What the mirror would make differently in the suite's smallest system, a word a line; nothing: it is as of today.
changed() {
    mirror=$(cat "$here/mirror")
    [ -z "$mirror" ] || grep -rqsF "$mirror" /etc/apt/sources.list /etc/apt/sources.list.d || echo mirror
    apt-get update -q >&2
    { apt-get dist-upgrade --simulate; apt-get install --simulate '?or(?essential,?priority(required))'; } > "$here/simulated"
    sed -nE 's/^(Inst|Remv) ([^ ]+) .*/\2/p' "$here/simulated"
}

case "$1" in
install)
    add_sources
    uid=0 gid=0
    add_user
    install_packages
    remove_sources
    remove_identities
    make_directories
    ;;
resolve)
    shift
    add_sources >&2
    resolve "$@"
    ;;
changed)
    changed
    ;;
esac

# Follows docs/start.md word by word; the scripts that try the packages source it, in a chroot.
# shellcheck shell=sh

# Prints a block of commands: SECTION NUMBER
block() {
    awk -v section="## $1" -v wanted="$2" '
        /^## / { inside = ($0 == section) }
        inside && /^```/ { open = !open; number += open; next }
        inside && open && number == wanted
    ' /opt/start.md
}

# Runs a block in this shell, line by line; `instead LINE` may run another command
# for a line, or else fails: SECTION NUMBER
follow() {
    block "$1" "$2" >/tmp/block
    [ -s /tmp/block ] || fail "docs/start.md has no block $2 in '$1'"
    while IFS= read -r line <&3; do
        echo "$ $line"
        instead "$line" || eval "$line" || fail "$line"
    done 3</tmp/block
    rm /tmp/block
}

# PyTorch and what else would be downloaded is that of the machine: PYTHON
add_packages() {
    echo /opt/site >"$("$1" -c 'import site; print(site.getsitepackages()[0])')/torch.pth"
    export PIP_NO_INDEX=1 PIP_NO_DEPS=1
}

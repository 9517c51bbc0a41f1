#!/bin/sh
# Builds the C code with the address and undefined-behaviour sanitizers and runs its tests against those builds.
# Exit status 0: every step passed. PYTHON names the interpreter that has the test packages (default: python3).
set -eu

cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
trap 'exit 1' HUP INT TERM

SANITIZE="-g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
WARN="-std=gnu11 -Wall -Wextra -Werror"
failed=0

# step NAME COMMAND...: runs the command, shows its output only when it fails.
step() {
    name=$1
    shift
    if "$@" >"$build/log" 2>&1; then
        echo "ok      $name"
    else
        echo "FAILED  $name"
        cat "$build/log"
        failed=1
        return 1
    fi
}

build_extensions() {
    include=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    suffix=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
    cp -r pfsd "$build/pfsd"
    rm -f "$build"/pfsd/*.so
    # shellcheck disable=SC2086 # lists of options
    gcc $WARN $SANITIZE -shared -fPIC -I"$include" -o "$build/pfsd/_core$suffix" csrc/core/*.c &&
        gcc $WARN $SANITIZE -shared -fPIC -I"$include" -o "$build/pfsd/_scan$suffix" csrc/scan.c
}

build_answers() {
    include=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    suffix=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
    mkdir "$build/mount"
    cp -r fuse/pfsfuse "$build/mount/pfsfuse"
    rm -f "$build"/mount/pfsfuse/*.so
    # shellcheck disable=SC2086 # lists of options
    gcc $WARN $SANITIZE -shared -fPIC -I"$include" -o "$build/mount/pfsfuse/_answers$suffix" csrc/answers/*.c -lfuse3
}

build_runner() {
    # shellcheck disable=SC2086 # lists of options
    gcc $WARN $SANITIZE -o "$build/pfs-runner" csrc/runner/*.c
}

# Loads those builds before pytest puts the checkout first in the module path.
RUN_WITH_EXTENSIONS='
import sys, pfsd._core, pfsd._scan, pytest
for module in (pfsd._core, pfsd._scan):
    if not module.__file__.startswith(sys.argv[1]):
        sys.exit(f"{module.__file__} was loaded instead of the build under test")
sys.exit(pytest.main(sys.argv[2:]))
'

# The interpreter itself is not built for leak checks: what it keeps until its end is no leak of ours.
test_extensions() {
    LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
        PYTHONPATH=$build "$PYTHON" -P -c "$RUN_WITH_EXTENSIONS" "$build" \
        --noconftest -p no:cacheprovider tests/pfsd/trees tests/pfsd/chunks/test_split.py \
        tests/pfsd/services/test_fuzz_formats.py
}

# Of the processes that the tests start, mounts load the build; what they report is in files.
test_answers() {
    library=$(gcc -print-file-name=libasan.so)
    LD_PRELOAD=$library ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$build/mount "$PYTHON" -P -c \
        'import sys, pfsfuse; sys.exit(not pfsfuse.__file__.startswith(sys.argv[1]))' "$build" || return 1
    LD_PRELOAD=$library ASAN_OPTIONS=detect_leaks=0:log_path=$build/mounts PYTHONMALLOC=malloc PYTHONPATH=$build/mount \
        UBSAN_OPTIONS=print_stacktrace=1:log_path=$build/mounts "$PYTHON" -P -m pytest -p no:cacheprovider \
        tests/pfsfuse/repository/test_small_files.py tests/pfsfuse/repository/test_at_once.py \
        tests/pfsfuse/kernel/test_listings.py || return 1
    for report in "$build"/mounts.*; do
        if [ -e "$report" ]; then
            cat "$build"/mounts.*
            return 1
        fi
    done
}

# Reports go to files, for some of the runners that the tests start have nobody who reads their standard error.
test_runner() {
    ASAN_OPTIONS=detect_leaks=1:log_path=$build/report UBSAN_OPTIONS=print_stacktrace=1:log_path=$build/report \
        PFS_RUNNER=$build/pfs-runner "$PYTHON" -m pytest --noconftest -p no:cacheprovider tests/ppsd/worker/test_runner*.py
    for report in "$build"/report.*; do
        if [ -e "$report" ]; then
            cat "$build"/report.*
            return 1
        fi
    done
}

if step "build core and scan" build_extensions; then
    step "tests of core and scan" test_extensions || true
fi
if [ -r /dev/fuse ] && [ -w /dev/fuse ]; then
    if step "build answers" build_answers; then
        step "tests of answers" test_answers || true
    fi
else
    echo "skipped tests of answers: needs /dev/fuse"
fi
if step "build runner" build_runner; then
    step "tests of runner" test_runner || true
fi
exit "$failed"

# The verbs of the course. `just` alone lists them.
# A step is 02, 2 or 02-init-pid1; its arguments are its own, word for word.

set positional-arguments := true

# The words of a transcript are the same on every machine.
export LC_ALL := "C.UTF-8"

[private]
default:
    @'{{ just_executable() }}' --list --unsorted

# Run a step: just run 02, just run 02 run ps -ef
[group('learn')]
[no-exit-message]
run step *args:
    #!/bin/sh
    bin=$('{{ just_executable() }}' _step "$1") || exit
    shift
    exec cargo run --quiet --bin "$bin" -- "$@"

# Start a step, and show who is whose child
[group('learn')]
[no-exit-message]
tree step *args:
    @cargo run --quiet -p lab -- tree "$@"

# Show what a step adds: just diff 02 03
[group('learn')]
[no-exit-message]
diff old new:
    @cargo run --quiet -p lab -- diff "$@"

# Show a step's system calls: just trace 02
[group('learn')]
[no-exit-message]
trace step *args:
    #!/bin/sh
    bin=$('{{ just_executable() }}' _step "$1") || exit
    shift
    if ! command -v strace >/dev/null; then
        echo "just trace: strace is not installed; your distribution has a package of that name" >&2
        exit 127
    fi
    case $#$bin in
        001-*) set -- command /bin/true ;;
        0*) set -- run /bin/true ;;
    esac
    cargo build --quiet --bin "$bin" || exit
    target=$(cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
    calls=execve,clone,clone3,fork,vfork,unshare,mount,prctl,getpid,wait4,waitid,exit_group
    exec strace --follow-forks --quiet=attach,exit,path-resolution --string-limit=60 --signal=none \
        --trace="$calls" "$target/debug/$bin" "$@"

# Take a lesson out, see what breaks: just break 03
[group('learn')]
[no-exit-message]
break step name='':
    @cargo run --quiet -p lab -- break "$1" ${2:+"$2"}

# Begin a step of yours, in work/: just start 02
[group('build it yourself')]
[no-exit-message]
start step *options:
    @cargo run --quiet -p lab -- start "$@"

# Run yours: just mine 02, just mine 02 run ps -ef
[group('build it yourself')]
[no-exit-message]
mine step *args:
    @cargo run --quiet -p lab -- mine "$@"

# Grade yours: just check 02 [--bin ./mine] [--json]
[group('build it yourself')]
[no-exit-message]
check step *options:
    #!/bin/sh
    # From where you are, so that the path after --bin is yours.
    cd '{{ invocation_directory() }}' || exit
    exec cargo run --quiet --manifest-path '{{ justfile_directory() }}/Cargo.toml' -p lab -- check "$@"

# Get the next hint for what fails first
[group('build it yourself')]
[no-exit-message]
hint step:
    @cargo run --quiet -p lab -- hint "$@"

# What is missing from yours to the finished step
[group('build it yourself')]
[no-exit-message]
solution step:
    @cargo run --quiet -p lab -- solution "$@"

# Show how far your steps are
[group('build it yourself')]
[no-exit-message]
progress:
    @cargo run --quiet -p lab -- progress

# What this machine can do for the course, and why not
[group('learn')]
[no-exit-message]
doctor *args:
    @cargo run --quiet -p lab -- doctor "$@"

# Build the book into target/book (needs mdbook)
[group('book')]
[no-exit-message]
book: _mdbook
    @mdbook build book

# Read the book, kept up to date: just serve [--open]
[group('book')]
[no-exit-message]
serve *options: _mdbook
    @mdbook serve book "$@"

# Look at the book in a browser (needs node, Chromium)
[group('book')]
[no-exit-message]
test-book: book
    @cd tests/browser && { test -d node_modules || npm ci --silent; } && npm test --silent

# Run all tests, or those of one step: just test 02
[group('test')]
[no-exit-message]
test step='all':
    #!/bin/sh
    if [ "$1" = all ]; then
        set --
    else
        bin=$('{{ just_executable() }}' _step "$1") || exit
        set -- -p "step-$bin"
    fi
    LAB_SKIPS=$(mktemp) && export LAB_SKIPS || exit
    trap 'rm -f "$LAB_SKIPS"' EXIT
    cargo test "$@"
    status=$?
    # What this machine cannot do: last, where it is seen.
    cargo run --quiet -p lab -- skips "$LAB_SKIPS"
    exit $status

# 2,000 runs, a third killed: what is left? just soak [02]
[group('test')]
[no-exit-message]
soak *args:
    @cargo run --quiet -p lab -- soak "$@"

# Accept or reject what tests saw that is new
[group('test')]
[no-exit-message]
review:
    #!/bin/sh
    if cargo insta --version >/dev/null 2>&1; then
        exec cargo insta review
    fi
    found=0
    for new in tests/snapshots/*.snap.new; do
        [ -e "$new" ] || continue
        found=1
        diff -u "${new%.new}" "$new" | tail -n +3
        printf '%s: accept? [y/N/q] ' "${new%.new}"
        read -r answer || exit 1
        case $answer in
            y) sed '/^assertion_line: /d' "$new" >"${new%.new}" && rm "$new" ;;
            q) exit ;;
            *) rm "$new" ;;
        esac
    done
    [ "$found" = 1 ] || echo "no snapshot is pending"

# Prove that the tests test: break all, see which fail
[group('test')]
[no-exit-message]
breaks step='':
    #!/bin/sh
    if [ -n "$1" ]; then
        LAB_STEP=$('{{ just_executable() }}' _step "$1") || exit
        export LAB_STEP
    fi
    exec cargo test -p lab --test breaks -- --nocapture --test-threads=1

# Test on Debian hosts in QEMU: just test-hosts bookworm
[group('test')]
[no-exit-message]
test-hosts *args:
    @tests/hosts/hosts "$@"

# Check all that must hold before a change lands
[group('test')]
[no-exit-message]
ci:
    @bash .ci/run

[private]
[no-exit-message]
_mdbook:
    #!/bin/sh
    command -v mdbook >/dev/null && exit
    echo "just: mdbook is not installed: cargo install --locked mdbook@0.5.4 (four minutes)" >&2
    exit 127

[private]
[no-exit-message]
_step word:
    #!/bin/sh
    for path in steps/*; do
        name=${path#steps/}
        number=${name%%-*}
        case $1 in
            "$name" | "$number" | "${number#0}") echo "$name"; exit ;;
        esac
    done
    echo "just: there is no step '$1'; the steps are:" >&2
    for path in steps/*; do echo "  ${path#steps/}" >&2; done
    exit 1

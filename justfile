# The verbs of the course. `just` alone lists them.
# A step is 02, 2 or 02-init-pid1; its arguments are its own, word for word.

set positional-arguments := true

# The words of a transcript are the same on every machine.
export LC_ALL := "C.UTF-8"

[private]
default:
    @'{{ just_executable() }}' --list --unsorted

# Run a step: just run 02, just run 02 run ps -ef, just run 01 exec /bin/sh
[group('learn')]
[no-exit-message]
run step *args:
    #!/bin/sh
    bin=$('{{ just_executable() }}' _step "$1") || exit
    shift
    exec cargo run --quiet --bin "$bin" -- "$@"

# Start a step that runs a shell, and show who is whose child
[group('learn')]
[no-exit-message]
tree step *args:
    @cargo run --quiet -p lab -- tree "$@"

# Show what a step adds to the step before: just diff 02 03
[group('learn')]
[no-exit-message]
diff old new:
    @cargo run --quiet -p lab -- diff "$@"

# Show the system calls of a step, with strace: just trace 02 [run /bin/true]
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

# Take one lesson out of a step, and see what breaks: just break 03, just break 03 no-private
[group('learn')]
[no-exit-message]
break step name='':
    @cargo run --quiet -p lab -- break "$1" ${2:+"$2"}

# Begin to write a step yourself, in work/: just start 02 (--again: anew)
[group('build it yourself')]
[no-exit-message]
start step *options:
    @cargo run --quiet -p lab -- start "$@"

# Run your step: just mine 02, just mine 02 run ps -ef
[group('build it yourself')]
[no-exit-message]
mine step *args:
    @cargo run --quiet -p lab -- mine "$@"

# Grade your step: just check 02, just check 02 --bin ./mine, just check 02 --json
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

# Show what is missing from your step to the finished one
[group('build it yourself')]
[no-exit-message]
solution step:
    @cargo run --quiet -p lab -- solution "$@"

# Show how far your steps are
[group('build it yourself')]
[no-exit-message]
progress:
    @cargo run --quiet -p lab -- progress

# Say what this machine can do for the course, and what not, and why
[group('learn')]
[no-exit-message]
doctor *args:
    @cargo run --quiet -p lab -- doctor "$@"

# Build the book into target/book (needs mdbook)
[group('book')]
[no-exit-message]
book: _mdbook
    @mdbook build book

# Read the book in a browser, made anew at every change: just serve [--open]
[group('book')]
[no-exit-message]
serve *options: _mdbook
    @mdbook serve book "$@"

# Look at the built book as a reader would, in a browser (needs node and Chromium)
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

# Run steps 2,000 times each, kill a third at random moments, and count what is left: just soak [02]
[group('test')]
[no-exit-message]
soak *args:
    @cargo run --quiet -p lab -- soak "$@"

# Look at snapshots that tests would change, and accept or reject each
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

# Prove that the tests test: break each step, or one, in each way, and see which tests fail
[group('test')]
[no-exit-message]
breaks step='':
    #!/bin/sh
    if [ -n "$1" ]; then
        LAB_STEP=$('{{ just_executable() }}' _step "$1") || exit
        export LAB_STEP
    fi
    exec cargo test -p lab --test breaks -- --nocapture --test-threads=1

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

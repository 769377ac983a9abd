# The commands of the course. `just` lists them.
# You can name a step 02, 2, or 02-init-pid1. The step gets its arguments unchanged.

set positional-arguments := true

# Print messages in English, so that transcripts are the same on every machine.
export LC_ALL := "C.UTF-8"
# The name of the command in messages, and the directory where relative paths start.
export COURSE_CALLED_AS := "just"
export COURSE_CALLED_FROM := invocation_directory()

[private]
default:
    @{{ quote(just_executable()) }} --justfile {{ quote(justfile()) }} --list --unsorted

# Cargo shows its progress, but doesn't say what it builds.
[private]
tool:
    @test -e "${CARGO_TARGET_DIR:-target}/debug/course" || echo "Building the course's tool, which takes about a minute the first time" >&2

# Run a step: just run 02, just run 02 run ps -ef
[group('learn')]
[no-exit-message]
run step *args: tool
    @cargo course run "$@"

# Start a step, and show its process tree
[group('learn')]
[no-exit-message]
tree step *args: tool
    @cargo course tree "$@"

# Show what a step adds: just diff 02 03
[group('learn')]
[no-exit-message]
diff old new: tool
    @cargo course diff "$@"

# Show a step's system calls: just trace 02
[group('learn')]
[no-exit-message]
trace step *args: tool
    @cargo course trace "$@"

# Step through a step's system calls: just slow 03
[group('learn')]
[no-exit-message]
slow step *args: tool
    @cargo course slow "$@"

# Remove one idea, and see what breaks: just break 03
[group('learn')]
[no-exit-message]
break step *name: tool
    @cargo course break "$@"

# Check whether this machine can run the course
[group('learn')]
[no-exit-message]
doctor *options: tool
    @cargo course doctor "$@"

# Create a starter in work/: just start 02
[group('build it yourself')]
[no-exit-message]
start step *options: tool
    @cargo course start "$@"

# Run your step: just work 02 run ps -ef
[group('build it yourself')]
[no-exit-message]
work step *args: tool
    @cargo course work "$@"

# Grade your step: just check 02 [NAME] [--verbose]
[group('build it yourself')]
[no-exit-message]
check step *options: tool
    @cargo course check "$@"

# Check your step again on every save
[group('build it yourself')]
[no-exit-message]
watch step *options: tool
    @cargo course watch "$@"

# Show the next hint: just hint 02 [NAME] [--all]
[group('build it yourself')]
[no-exit-message]
hint step *options: tool
    @cargo course hint "$@"

# Show how your step differs from our solution
[group('build it yourself')]
[no-exit-message]
solution step *options: tool
    @cargo course solution "$@"

# Show how many checks each of your steps passes
[group('build it yourself')]
[no-exit-message]
progress *options: tool
    @cargo course progress "$@"

# Build the book into target/book (needs mdBook 0.5)
[group('book')]
[no-exit-message]
book:
    @mdbook build book

# Serve the book as you edit it: just serve [--open]
[group('book')]
[no-exit-message]
serve *options:
    @mdbook serve book "$@"

# Test the book in a browser (needs Node, Chromium)
[group('book')]
[no-exit-message]
test-book: book
    @cd tests/browser && { test node_modules/.package-lock.json -nt package-lock.json || npm ci --silent; } && npm test --silent

# Run all tests, or those of one step: just test 02
[group('test')]
[no-exit-message]
test *step: tool
    @cargo course test "$@"

# Run steps 2,000 times, and kill a third
[group('test')]
[no-exit-message]
soak *args: tool
    @cargo course soak "$@"

# Review changed snapshots (needs cargo-insta)
[group('test')]
[no-exit-message]
review:
    @cargo insta review

# See which tests fail with a break
[group('test')]
[no-exit-message]
test-breaks *step: tool
    @cargo course test-breaks "$@"

# Test on Debian in QEMU: just test-hosts bookworm
[group('test')]
[no-exit-message]
test-hosts *args:
    @tests/hosts/hosts "$@"

# Run all checks that must pass before a change lands
[group('test')]
[no-exit-message]
ci:
    @bash .ci/run

# Turns `go build -v` into one line every 100 packages, so that a first build
# of several minutes shows that it moves. What is no package path or download
# (an error) is passed on.
BEGIN { print what ": building"; fflush() }
/^go: downloading / { if (++downloads % 50 == 1) { print what ": downloading modules (" downloads ")"; fflush() } next }
/^[A-Za-z0-9_.~\/-]+$/ { if (++packages % 100 == 0) { print what ": " packages " packages compiled"; fflush() } next }
{ print; fflush() }

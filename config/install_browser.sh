#!/bin/sh
# Make a Chromium available for the browser tests where that needs nobody's leave: as root, by apt.
# Anywhere else the tests say themselves why they were skipped. Most of them need no windows, and
# take half the work in the build that has none.
missing=
if ! command -v chromium >/dev/null 2>&1; then
    missing=chromium
fi
if ! command -v chromium-headless-shell >/dev/null 2>&1; then
    missing="${missing:+$missing }chromium-headless-shell"
fi
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    command -v chromium >/dev/null 2>&1 ||
        echo "no Chromium found: browser tests will be skipped (they run where \`chromium\` is in PATH)"
    exit 0
fi
echo "Installing $missing for the browser tests"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
for package in $missing; do
    apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
        echo "$package was not installed"
done
exit 0

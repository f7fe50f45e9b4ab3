#!/bin/sh
# Make a Chromium available for the browser tests where that needs nobody's leave: as root, by apt.
# Anywhere else the tests say themselves why they were skipped.
command -v chromium >/dev/null 2>&1 && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "no Chromium found: browser tests will be skipped (they run where \`chromium\` is in PATH)"
    exit 0
fi
echo "Installing chromium for the browser tests"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null
exit 0

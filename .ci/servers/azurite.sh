# Azurite: Azure Blob Storage. It verifies signatures.
VERSION=3.37.0

install() {
  [ -x "$SERVERS/azurite-$VERSION/node_modules/.bin/azurite-blob" ] && return
  need npm "install nodejs and npm"
  echo "installing azurite $VERSION" >&2
  rm -rf "$SERVERS/azurite-$VERSION.part"
  mkdir -p "$SERVERS/azurite-$VERSION.part"
  (cd "$SERVERS/azurite-$VERSION.part" && npm install --silent --no-audit --no-fund "azurite@$VERSION" >&2) ||
    fail "npm cannot install it (no network?)"
  mv "$SERVERS/azurite-$VERSION.part" "$SERVERS/azurite-$VERSION"
}

start() {
  local port key
  port="$(free_port)"
  key="$(head -c 64 /dev/urandom | base64 -w0)"
  AZURITE_ACCOUNTS="logtide:$key" "$SERVERS/azurite-$VERSION/node_modules/.bin/azurite-blob" --blobHost 127.0.0.1 \
    --blobPort "$port" --location "$DIR/data" --skipApiVersionCheck --silent --disableTelemetry \
    >"$DIR/azurite.log" 2>&1 9>&- &
  PIDS+=($!)
  wait_port "$port" $!
  python3 "$HERE/azure_container.py" "http://127.0.0.1:$port/logtide" "$key" container || fail "cannot create a container"
  URL="azure://container/tests?endpoint=http://127.0.0.1:$port/logtide&account-name=logtide&account-key=$key"
  CREATE=honoured
  # A body is compared with a checksum only if one is sent.
  DEFECTS="takes-changed-bodies"
}

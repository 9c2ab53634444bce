# s3s-fs: S3 over a directory, in Rust. It verifies signatures and checksums, and lies about create-if-absent: it looks
# first and writes afterwards.
VERSION=0.14.1

install() {
  [ -x "$SERVERS/s3s-fs-$VERSION/bin/s3s-fs" ] && return
  need cargo "install a Rust toolchain"
  echo "building s3s-fs $VERSION (about five minutes)" >&2
  env -u RUSTFLAGS CARGO_TARGET_DIR="$DIR/build" nice cargo install s3s-fs --version "$VERSION" --features binary \
    --locked --quiet --root "$SERVERS/s3s-fs-$VERSION" || fail "cargo cannot install it"
  rm -rf "$DIR/build"
}

start() {
  local port
  port="$(free_port)"
  mkdir -p "$DIR/data/bucket"
  "$SERVERS/s3s-fs-$VERSION/bin/s3s-fs" --host 127.0.0.1 --port "$port" --access-key logtide --secret-key logtidesecret \
    "$DIR/data" >"$DIR/s3s-fs.log" 2>&1 9>&- &
  PIDS+=($!)
  wait_port "$port" $!
  s3_url "$port" logtide logtidesecret bucket
  CREATE=racy
  # A missing bucket is made; a class is refused; a name becomes a file name
  # in base64; what is a directory answers 500.
  DEFECTS="makes-buckets no-classes short-names directories"
}

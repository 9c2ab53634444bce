# moto: S3 and KMS in memory, quick to start. It verifies neither signatures nor checksums.
VERSION=5.2.5

install() {
  [ -x "$SERVERS/moto-$VERSION/bin/python" ] && return
  echo "installing moto $VERSION" >&2
  rm -rf "$SERVERS/moto-$VERSION.part"
  python3 -m venv "$SERVERS/moto-$VERSION.part" || fail "python3 cannot make a virtual environment: install python3-venv"
  "$SERVERS/moto-$VERSION.part/bin/pip" install -q --disable-pip-version-check "moto[server,s3]==$VERSION" ||
    fail "pip cannot install it (no network?)"
  # It is called by its python: the scripts in it keep the path that they were made at.
  mv "$SERVERS/moto-$VERSION.part" "$SERVERS/moto-$VERSION"
}

start() {
  local port
  port="$(free_port)"
  "$SERVERS/moto-$VERSION/bin/python" -c 'from moto.server import main; main()' -H 127.0.0.1 -p "$port" \
    >"$DIR/moto.log" 2>&1 9>&- &
  PIDS+=($!)
  wait_port "$port" $!
  make_bucket "$port" test testtest bucket
  s3_url "$port" test testtest bucket
  KMS="aws-kms:///$(python3 "$HERE/kms_key.py" "$port")?ENDPOINT=http://127.0.0.1:$port&REGION=us-east-1"
  KMS="$KMS&AWS_ACCESS_KEY_ID=test&AWS_SECRET_ACCESS_KEY=testtest"
  CREATE=honoured
  CREDENTIALS=ignored
  DEFECTS="takes-changed-bodies"
}

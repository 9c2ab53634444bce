# Our own fake of GCS's XML interface and of Google's KMS (gcs_fake.py): no server from the registries speaks them. It
# says what we send, not that Google answers so.
install() { :; }

start() {
  local port
  port="$(free_port)"
  python3 "$HERE/gcs_fake.py" "$port" bucket >"$DIR/gcs-fake.log" 2>&1 9>&- &
  PIDS+=($!)
  wait_port "$port" $!
  echo '{"type": "service_account", "client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": true}' \
    >"$DIR/credentials.json"
  URL="gcs://bucket/tests?endpoint=http://127.0.0.1:$port&credentials-file=$DIR/credentials.json"
  # Any name of a key will do, see the fake's head.
  KMS="gcp-kms:///projects/p/locations/l/keyRings/r/cryptoKeys/k?ENDPOINT=http://127.0.0.1:$port&CREDENTIALS=$DIR/credentials.json"
  CREATE=honoured
  CREDENTIALS=ignored
  # A body is compared with a checksum only if one is sent.
  DEFECTS="takes-changed-bodies"
}

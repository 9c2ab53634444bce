# MinIO, where the machine has Go and its module proxy.
VERSION=latest

install() {
  [ -x "$SERVERS/minio/minio" ] && return
  need go "install Go; its module proxy is where MinIO comes from"
  echo "building minio" >&2
  mkdir -p "$SERVERS/minio"
  GOBIN="$SERVERS/minio" GOFLAGS=-mod=mod nice go install "github.com/minio/minio@$VERSION" || fail "go cannot install it"
}

start() {
  local port console
  port="$(free_port)"
  console="$(free_port)"
  MINIO_ROOT_USER=logtide MINIO_ROOT_PASSWORD=logtidesecret "$SERVERS/minio/minio" server --quiet \
    --address "127.0.0.1:$port" --console-address "127.0.0.1:$console" "$DIR/data" >"$DIR/minio.log" 2>&1 9>&- &
  PIDS+=($!)
  wait_port "$port" $!
  make_bucket "$port" logtide logtidesecret bucket
  s3_url "$port" logtide logtidesecret bucket
  CREATE=honoured
}

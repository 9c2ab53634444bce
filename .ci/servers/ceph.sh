# Ceph's object gateway over one monitor and one in-memory OSD. It verifies signatures; its create-if-absent holds.
install() {
  local missing=() program
  for program in radosgw ceph-mon ceph-osd; do command -v "$program" >/dev/null 2>&1 || missing+=("$program"); done
  [ ${#missing[@]} -eq 0 ] && return
  need apt-get "install ${missing[*]} (Ceph) by hand"
  local sudo=""
  if [ "$(id -u)" -ne 0 ]; then
    need sudo "run as root: apt-get install --no-install-recommends ${missing[*]}"
    sudo="sudo"
  fi
  echo "installing ${missing[*]}" >&2
  $sudo apt-get update -qq
  # Nothing of it is to run as a service of the machine: it is started below, and stopped.
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$DIR/apt.log" 2>&1 ||
    { tail -n 20 "$DIR/apt.log" >&2; fail "apt cannot install it"; }
}

start() {
  local fsid osd mon port
  fsid="$(cat /proc/sys/kernel/random/uuid)"
  osd="$(cat /proc/sys/kernel/random/uuid)"
  mon="$(free_port)"
  port="$(free_port)"
  mkdir -p "$DIR"/{mon,osd,rgw,run}
  cat >"$DIR/ceph.conf" <<CONF
[global]
fsid = $fsid
mon host = v2:127.0.0.1:$mon
mon initial members = a
keyring = $DIR/keyring
public addr = 127.0.0.1
cluster addr = 127.0.0.1
run dir = $DIR/run
admin socket = $DIR/run/\$name.asok
log file = $DIR/\$name.log
crash dir = $DIR
# One copy of everything, few placement groups: it holds a test's objects.
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
mon data avail crit = 1
[mon]
mon data = $DIR/mon
mon cluster log file = $DIR/cluster.log
[osd]
osd data = $DIR/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd memory target = 1073741824
osd class update on start = false
[client.rgw]
rgw data = $DIR/rgw
rgw frontends = beast endpoint=127.0.0.1:$port
rgw dns name = localhost
rgw run sync thread = false
rgw enable usage log = false
CONF
  local conf=(-c "$DIR/ceph.conf" --setuser "$(id -un)" --setgroup "$(id -gn)")
  {
    ceph-authtool -C "$DIR/keyring" --gen-key -n mon. --cap mon 'allow *'
    ceph-authtool "$DIR/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
    ceph-authtool "$DIR/keyring" --gen-key -n client.rgw --cap mon 'allow rw' --cap osd 'allow rwx'
    ceph-authtool "$DIR/keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
    monmaptool --create --clobber --addv a "[v2:127.0.0.1:$mon]" --fsid "$fsid" "$DIR/monmap"
    ceph-mon "${conf[@]}" -i a --mkfs --monmap "$DIR/monmap" --keyring "$DIR/keyring"
    for part in mon osd rgw; do cp "$DIR/keyring" "$DIR/$part/keyring"; done
  } >"$DIR/setup.log" 2>&1 || { cat "$DIR/setup.log" >&2; fail "cannot set up a cluster"; }
  daemon ceph-mon "${conf[@]}" -i a -f
  ceph -c "$DIR/ceph.conf" --connect-timeout 30 osd new "$osd" 0 >>"$DIR/setup.log" 2>&1 || fail "the monitor does not answer"
  ceph-osd "${conf[@]}" -i 0 --mkfs --osd-uuid "$osd" >>"$DIR/setup.log" 2>&1
  daemon ceph-osd "${conf[@]}" -i 0 -f
  for _ in $(seq 200); do
    ceph -c "$DIR/ceph.conf" osd stat 2>/dev/null | grep -q '1 up' && break
    sleep 0.1
  done
  daemon radosgw "${conf[@]}" -n client.rgw -f
  radosgw-admin -c "$DIR/ceph.conf" -n client.rgw user create --uid=logtide --display-name=logtide \
    --access-key=logtide --secret-key=logtidesecret >>"$DIR/setup.log" 2>&1 || fail "cannot create a user"
  wait_port "$port" "${PIDS[-1]}"
  make_bucket "$port" logtide logtidesecret bucket
  s3_url "$port" logtide logtidesecret bucket
  CREATE=honoured
  # It has only the classes that its zone is given.
  DEFECTS="no-classes"
}

# Starts a program in the foreground of its own.
daemon() {
  "$@" >"$DIR/$1.log" 2>&1 9>&- &
  PIDS+=($!)
}

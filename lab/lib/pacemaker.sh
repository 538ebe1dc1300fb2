# shellcheck shell=bash
# corosync and Pacemaker, for a lab that was asked for with --pacemaker.

# prepare_pacemaker NODE: what the node has of its own beyond the folders of
# every node. Copies of the machine's programs and agents are small, and need
# neither an overlay nor a mount point in the machine's /usr for what a node
# adds to them.
prepare_pacemaker() {
  local path root=$VAR/$1
  for path in /usr/sbin /usr/lib/ocf; do
    mkdir -p "$root$path"
    cp -a "$path/." "$root$path/"
  done
  cp "$HERE/fence_lab" "$root/usr/sbin/"
  mkdir -p "$root/etc/corosync/uidgid.d" "$root/var/lib/corosync" "$root/var/log/corosync" "$root/var/lib/pacemaker"
  for path in /var/lib/pacemaker/{blackbox,cib,cores,pengine} /var/log/{pacemaker,crmsh}; do
    install -d -m 0770 -o hacluster -g haclient "$root$path"
  done
  corosync_conf >"$root/etc/corosync/corosync.conf"
  first_cib >"$root/var/lib/pacemaker/cib/cib.xml"
  chown hacluster:haclient "$root/var/lib/pacemaker/cib/cib.xml"
  chmod 0600 "$root/var/lib/pacemaker/cib/cib.xml"
  enable_cluster "$root"
  printf '%s\n' /usr/sbin /usr/lib/ocf /etc/corosync /var/lib/corosync /var/lib/pacemaker >>"$root/private"
}

# As Debian's packages do it.
enable_cluster() {
  local unit wants=$1/etc/systemd/system/multi-user.target.wants
  mkdir -p "$wants"
  for unit in corosync pacemaker; do
    ln -s "/lib/systemd/system/$unit.service" "$wants/$unit.service"
  done
}

# One statement a line: its parser wants it so. The node may not go into the
# machine's cgroups.
corosync_conf() {
  local node
  cat <<END
system {
  move_to_root_cgroup: no
}
totem {
  version: 2
  cluster_name: $LAB
  transport: udpu
  crypto_cipher: none
  crypto_hash: none
  token: 2000
}
logging {
  to_logfile: yes
  logfile: /var/log/corosync/corosync.log
  to_syslog: no
  to_stderr: no
  timestamp: hires
}
quorum {
  provider: corosync_votequorum
END
  # This brings wait_for_all, too: a node that boots alone does nothing.
  [[ $(node_count) != 2 ]] || say '  two_node: 1'
  say '}'
  say 'nodelist {'
  for node in $(node_names); do
    cat <<END
  node {
    ring0_addr: $(address_of "$node")
    name: $node
    nodeid: ${node#node}
  }
END
  done
  say '}'
}

# An empty cluster, but for how long its first election waits for a node that
# would have won another one before: 20 s by itself.
first_cib() {
  cat <<'END'
<cib validate-with="pacemaker-3.0" admin_epoch="0" epoch="1" num_updates="0">
  <configuration>
    <crm_config>
      <cluster_property_set id="cib-bootstrap-options">
        <nvpair id="cib-bootstrap-options-dc-deadtime" name="dc-deadtime" value="2s"/>
      </cluster_property_set>
    </crm_config>
    <nodes/>
    <resources/>
    <constraints/>
  </configuration>
  <status/>
</cib>
END
}

# --- the whole cluster -------------------------------------------------------

await_cluster() {
  local node
  for node in $(node_names); do
    wait_until 90 sees_all_online "$node" && continue
    in_node "$node" crm_mon -1 >&2 || true
    fail "Pacemaker of $node does not see all nodes of lab '$LAB' online, with quorum."
  done
}

# sees_all_online NODE: asking costs more than most conditions do.
sees_all_online() {
  local seen online
  seen=$(in_node "$1" crm_mon -1 --output-as=xml 2>/dev/null) || true
  online=$(grep -c '<node name="node[1-9]" .*online="true".* pending="false"' <<<"$seen" || true)
  [[ $seen == *'with_quorum="true"'* && $online == $(node_count) ]] && return
  sleep 0.2
  return 1
}

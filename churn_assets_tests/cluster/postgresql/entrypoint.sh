#!/bin/sh -e
# Creates the database once, runs the scripts of /docker-entrypoint-initdb.d, then serves.
sockets=/var/run/postgresql
export PGHOST=$sockets
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
  initdb --username=postgres --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 > /tmp/initdb.log
  rm /tmp/password
  pg_ctl --wait --options="-c listen_addresses= -c unix_socket_directories=$sockets" start > /tmp/start.log
  for script in /docker-entrypoint-initdb.d/*.sh; do . "$script"; done
  pg_ctl --wait stop
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
fi
unset POSTGRES_PASSWORD CHURN_PASSWORD
exec postgres -c listen_addresses='*' -c unix_socket_directories=$sockets

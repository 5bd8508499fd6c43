#!/bin/sh
# Makes the passwords of compose.yaml, once: sh deploy/secrets.sh [FOLDER]   (default: secrets/ beside compose.yaml)
# What is there stays. The files are for the containers of the site alone; the program runs as user 10001 and must be
# able to read ledger_url and broker_url, RabbitMQ (999) rabbitmq.conf: the folder is closed to others instead.
set -eu
folder=${1:-$(dirname "$0")/../secrets}
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

password() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

write() { # name, content
    [ -e "$folder/$1" ] || printf '%s\n' "$2" > "$folder/$1"
    chmod 644 "$folder/$1"
}

if [ ! -e "$folder/ledger_url" ]; then
    ledger=$(password)
    write postgres_password "$ledger"
    write ledger_url "postgresql://lexiseg:$ledger@postgres:5432/lexiseg"
fi
if [ ! -e "$folder/broker_url" ]; then
    queue=$(password)
    write rabbitmq.conf "default_user = lexiseg
default_pass = $queue
loopback_users = none"
    write broker_url "amqp://lexiseg:$queue@rabbitmq:5672//"
fi

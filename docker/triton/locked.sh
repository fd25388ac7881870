#!/bin/sh
# tritonserver with its control APIs closed by a secret that nobody keeps, as the gateway and serve.py start it: app/triton_install.py.
set -eu
secret=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
lock="model-repository,shared-memory,trace,logging:searchbar=$secret"
exec tritonserver "--grpc-restricted-protocol=$lock" "--http-restricted-api=$lock" "$@"

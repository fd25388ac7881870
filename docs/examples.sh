#!/bin/sh
# The README's examples against a running Searchbar: docs/examples.sh [URL]
url=${1:-http://127.0.0.1:8080}
set -x
curl -s "$url/v1/search" -H 'content-type: application/json' -d '{"query": "bilie jean micheal jackson", "limit": 2}'; echo
curl -s "$url/v1/spellcheck" -H 'content-type: application/json' -d '{"queries": ["smels like teen sprit", "blink-182"]}'; echo
curl -s "$url/v1/search?q=sad+songs+for+a+rainy+day&limit=2"; echo
curl -s "$url/v1/suggest?q=bilie&limit=2"; echo
curl -s "$url/v1/embed" -H 'content-type: application/json' -d '{"query": "halo"}' | cut -c1-120; echo

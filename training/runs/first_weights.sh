#!/bin/sh
# The first shipped weights: about 105 minutes on two CPU cores. DATA is a folder with charts.tsv, catalogue.tsv, podcasts.tsv and
# playlists.tsv (artist, title, … columns); what was drawn from each is in training/LOG.md.
set -eu
: "${DATA:?a folder with the catalogues}"
bin=${BIN:-.venv-train/bin}
out=training/output

"$bin/searchbar" train speller --minutes 62 --out "$out/speller" --install \
    --catalogue app/data/demo.csv --share 0.14 --catalogue "$DATA/charts.tsv" --share 0.40 \
    --catalogue "$DATA/catalogue.tsv" --share 0.34 --catalogue "$DATA/podcasts.tsv" --share 0.04 \
    --catalogue "$DATA/playlists.tsv" --share 0.08
"$bin/searchbar" train embedder --minutes 28 --out "$out/embedder" --install --playlists "$DATA/playlists.tsv" \
    --catalogue app/data/demo.csv --share 0.40 --catalogue "$DATA/charts.tsv" --share 0.28 \
    --catalogue "$DATA/catalogue.tsv" --share 0.26 --catalogue "$DATA/podcasts.tsv" --share 0.06
"$bin/searchbar" train embedder --minutes 11 --lr 5e-4 --init "$out/embedder/model" --out "$out/embedder-continued" --install \
    --playlists "$DATA/playlists.tsv" --catalogue app/data/demo.csv --share 0.50 --catalogue "$DATA/charts.tsv" --share 0.22 \
    --catalogue "$DATA/catalogue.tsv" --share 0.22 --catalogue "$DATA/podcasts.tsv" --share 0.06
"$bin/searchbar" train reranker --catalogue app/data/demo.csv --catalogue "$DATA/charts.tsv" --others "$DATA/playlists.tsv"

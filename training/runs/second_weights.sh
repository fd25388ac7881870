#!/bin/sh
# The second weights, from the first: noise, an hour of training, the reranker. DATA is a folder with charts.tsv,
# catalogue.tsv, podcasts.tsv, playlists.tsv and the two files of misspellings; what came of it is in training/LOG.md.
set -eu
: "${DATA:?a folder with the catalogues}" "${FIRST:?the speller directory that first_weights.sh made}"
bin=${BIN:-.venv-train/bin}

"$bin/searchbar" train noise --pairs "$DATA/real_misspellings_dev.tsv" --pairs "$DATA/general_misspellings.tsv" \
    --catalogue "$DATA/catalogue.tsv"
"$bin/searchbar" train speller --init "$FIRST" --lr 7e-4 --batch-size 128 --minutes 60 --out training/output/speller2 --install \
    --catalogue app/data/demo.csv --share 0.10 --catalogue "$DATA/charts.tsv" --share 0.25 \
    --catalogue "$DATA/catalogue.tsv" --share 0.53 --catalogue "$DATA/podcasts.tsv" --share 0.05 \
    --catalogue "$DATA/playlists.tsv" --share 0.07
"$bin/searchbar" train reranker --catalogue app/data/demo.csv --catalogue "$DATA/charts.tsv" --catalogue "$DATA/catalogue.tsv" \
    --others "$DATA/playlists.tsv:playlist" --others "$DATA/catalogue.tsv:album" --count 12000

#!/bin/sh
# The weights that ship now, from those of second_weights.sh: eight minutes on one H200 that both runs shared, then the reranker on a CPU.
# DATA is a folder with charts.tsv, catalogue.tsv, podcasts.tsv and playlists.tsv, SECOND one with the checkpoints `speller` and `embedder`
# of before; what came of it is in training/LOG.md.
set -eu
: "${DATA:?a folder with the catalogues}" "${SECOND:?the checkpoints that second_weights.sh ended in}"
bin=${BIN:-.venv-train/bin}
shared="--batch-size 2048 --minutes 8.1 --workers 3 --no-compile --install"

"$bin/searchbar" train speller --init "$SECOND/speller" --layers 3+1 --lr 1e-3 $shared --out training/output/speller3 \
    --catalogue app/data/demo.csv --share 0.10 --catalogue "$DATA/charts.tsv" --share 0.25 \
    --catalogue "$DATA/catalogue.tsv" --share 0.53 --catalogue "$DATA/podcasts.tsv" --share 0.05 \
    --catalogue "$DATA/playlists.tsv" --share 0.07 &
"$bin/searchbar" train embedder --init "$SECOND/embedder" --layers 3 --lr 8e-4 $shared --out training/output/embedder3 \
    --catalogue app/data/demo.csv --share 0.40 --catalogue "$DATA/charts.tsv" --share 0.27 \
    --catalogue "$DATA/catalogue.tsv" --share 0.20 --catalogue "$DATA/podcasts.tsv" --share 0.13 --playlists "$DATA/playlists.tsv" &
wait
"$bin/searchbar" train reranker --catalogue app/data/demo.csv --catalogue "$DATA/charts.tsv" --catalogue "$DATA/catalogue.tsv" \
    --others "$DATA/playlists.tsv:playlist" --others "$DATA/catalogue.tsv:album" --count 12000

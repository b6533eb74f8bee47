#!/usr/bin/env bash
# A newcomer's first hour, from a wheel in an empty environment: a folder of own pictures is trained,
# evaluated, predicted, served and exported, and every deployment gives the same probabilities.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

"$python" -m venv build-environment
build-environment/bin/pip install --quiet --disable-pip-version-check build
build-environment/bin/python -m build --outdir dist "$root" >build.log 2>&1 || { cat build.log; exit 1; }
"$python" -m venv environment
PATH=$folder/environment/bin:$PATH
pip install --quiet --disable-pip-version-check "$(ls dist/*.whl)[onnx]" onnxruntime

unset PYTHONPATH FASTCNN_DATA_DIR
python - dist/*.whl <<'PYTHON'
import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
names = wheel.namelist()
assert "fastcnn/py.typed" in names, "py.typed is missing"
text = wheel.read(next(name for name in names if name.endswith("METADATA"))).decode()
assert "](docs/" not in text, "README has a link that a package index cannot follow"
PYTHON

python "$root/tests/newcomer_pictures.py" pictures
echo '$ fastcnn train --data pictures'
fastcnn train --data pictures --out run | tail -n 8
fastcnn evaluate run | tail -n 3
fastcnn predict run pictures/circle --csv >circles.csv
test "$(wc -l <circles.csv)" = 151
for name in net.onnx net.h net.py net.html; do
    fastcnn export run --out "$name"
done
! grep -Eq '(src|href)="?https?:' net.html
python "$root/tests/newcomer_check.py" run pictures

#!/usr/bin/env bash
# Builds the container images with docker, podman or buildah, whichever is there.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'END'
docker/build.sh [options] [IMAGE...] [-- ENGINE'S OPTIONS...]      build images from the locked requirements

IMAGE is airflow, spark, training, training-gpu or plain; without one: airflow, spark and training.

  --prefix PREFIX   what the names start with (localhost/toposieve-), such as registry.example.org/physics/toposieve-
  --tag TAG         tag of the images (1)
  --base IMAGE      what they start from (docker.io/library/python:3.11-slim-bookworm): any Debian with Python 3.11-3.13
  --engine ENGINE   docker, podman or buildah (the first of these that is there and works)
  --push            push each image after it is built
  --dry-run         print the commands only

What follows -- goes to the engine's build command, such as -- --no-cache --build-arg HTTPS_PROXY=http://proxy:3128
END
}

fail() { echo "docker/build.sh: $*" >&2; exit 2; }

works() {
    case $1 in
        # Podman may call itself docker.
        docker) docker info >/dev/null 2>&1 && [[ "$(docker --version)" != *podman* ]] ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

find_engine() {
    for candidate in docker podman buildah; do
        works "$candidate" && { echo "$candidate"; return; }
    done
    fail "no docker daemon, podman or buildah here: install one of them"
}

version=$(git describe --tags --always --dirty 2>/dev/null || echo unknown)
prefix=localhost/toposieve- tag=1 base="" engine="" push=false run=() images=() extra=()
while (($#)); do
    case $1 in
        --prefix | --tag | --base | --engine)
            (($# > 1)) || fail "$1 needs a value"
            declare "${1#--}=$2"
            shift
            ;;
        --push) push=true ;;
        --dry-run) run=(echo) ;;
        -h | --help) usage; exit ;;
        airflow | spark | training | training-gpu | plain) images+=("$1") ;;
        --)
            shift
            extra=("$@")
            break
            ;;
        *) fail "unknown argument $1 (see --help)" ;;
    esac
    shift
done
((${#images[@]})) || images=(airflow spark training)
[ -n "$engine" ] || engine=$(find_engine)

options=(--build-arg "VERSION=$version"
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)"
    --build-arg "SOURCE=$(git remote get-url origin 2>/dev/null | sed 's|//[^/@]*@|//|' | grep . || echo unknown)")
[ -z "$base" ] || options+=(--build-arg "BASE_IMAGE=$base")
# The OCI format has no health check; docker's own is kept by every registry.
[ "$engine" = docker ] || options+=(--format docker)

for image in "${images[@]}"; do
    name=$prefix$image:$tag
    folder=${image%-gpu}
    [ "$image" != plain ] || folder=training
    arguments=(--file "docker/$folder/Dockerfile" --tag "$name" "${options[@]}")
    [ "$image" != training-gpu ] || arguments+=(--build-arg REQUIREMENTS=training-gpu.txt --build-arg "TITLE=toposieve-$image")
    [ "$image" != plain ] || arguments+=(--target plain)
    # An empty array is unbound in the bash of macOS.
    ${run[@]+"${run[@]}"} "$engine" build "${arguments[@]}" ${extra[@]+"${extra[@]}"} .
    ! $push || ${run[@]+"${run[@]}"} "$engine" push "$name"
done

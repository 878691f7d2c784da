# shellcheck shell=bash
# What the download_*.sh scripts share; they source this file.
#
#   fetch URL FILE [SHA256]           download FILE, or go on where an interrupted run left it
#   there FOLDER FILE...              is FOLDER there already, with these files in it?
#   unpack ARCHIVE NAME DIR FILE...   make the archive's folder NAME DIR/NAME, and drop the archive
#   new_scratch DIR NAME, move_in NAME DIR FILE...   the first and the last step of unpack
#
# Nothing appears under its final name before it is complete and checked. A file for which no
# checksum is published is held to that of its first download, kept in .sha256 beside it.

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CHECKSUMS=${CHECKSUMS:-$scripts/checksums.txt}
RETRIES=${RETRIES:-4}
RETRY_DELAY=${RETRY_DELAY:-2}
# shellcheck disable=SC2034  # the scripts show it in their help
download_variables="  CHECKSUMS         another list of checksums than scripts/checksums.txt
  RETRIES           tries in a row that bring nothing new before giving up (4)
  RETRY_DELAY       seconds before the second try, twice that before the third and so on (2)"

fail() { echo "error: $*" >&2; exit 2; }

need() {
    command -v "$1" >/dev/null || fail "$1 was not found; on Debian and Ubuntu: apt-get install $1"
}

# Sets $python, which zip archives need.
need_python() {
    python=$(command -v python3 || command -v "$scripts/../.venv/bin/python") || need python3
}

sha256() {
    if command -v sha256sum >/dev/null; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi |
        cut -d' ' -f1
}

# The checksum of a name in a list of them; nothing when there is none.
look_up() {
    [ ! -e "$2" ] || awk -v name="$1" '!/^#/ && $2 == name { print $1; exit }' "$2"
}

is_archive() { case $1 in *.zip | *.tar.gz) ;; *) false ;; esac; }

# Whether an archive, whose final name is the second argument, is neither cut off nor damaged.
whole() {
    case $2 in
        *.zip)
            "$python" -I -c 'import sys, zipfile
sys.exit(zipfile.ZipFile(sys.argv[1]).testzip())' "$1" >/dev/null 2>&1
            ;;
        *.tar.gz) tar -tzf "$1" >/dev/null 2>&1 ;;
    esac
}

# Add to PART what it lacks of URL. Otherwise returns 1, and says why in $problem.
transfer() {
    local url=$1 part=$2 resume=1 tries=0 furthest=0 size output status code message arguments
    # Without curl's own --retry, which takes up each try at the place where the first one began.
    arguments=(--fail --location --connect-timeout 30 --speed-limit 1 --speed-time 60
        --continue-at - --output "$part" --write-out '\n%{http_code}' "$url")
    while :; do
        [ -n "$resume" ] || rm -f "$part"
        status=0
        if [ -t 2 ]; then
            output=$(curl --progress-bar "${arguments[@]}") || status=$?
        else
            output=$(curl --silent --show-error "${arguments[@]}" 2>&1) || status=$?
        fi
        code=${output##*$'\n'}
        message=$(sed -n 's/^curl: ([0-9]*) //p' <<<"$output" | tail -n 1)
        message=${message:-curl ended with exit code $status}
        case $status:$code in
            # 416: there is nothing beyond PART. Whether PART is good is for the caller to check.
            0:* | *:416) return 0 ;;
            # The server cannot send the rest of a file alone.
            33:* | 36:*) if [ -n "$resume" ]; then resume=; continue; fi ;;
            22:408 | 22:429 | 22:5??) message="HTTP $code" ;;
            22:*) problem="$url: HTTP $code"; return 1 ;;
            # No answer, or one that broke off.
            5:* | 6:* | 7:* | 16:* | 18:* | 28:* | 35:* | 52:* | 55:* | 56:* | 92:*) ;;
            *) problem="$url: $message"; return 1 ;;
        esac
        size=0
        [ ! -e "$part" ] || size=$(($(wc -c <"$part")))
        if [ "$size" -gt "$furthest" ]; then furthest=$size tries=0; fi
        tries=$((tries + 1))
        if [ "$tries" -ge "$RETRIES" ]; then problem="$url: $message"; return 1; fi
        echo "$url: $message; trying again" >&2
        sleep "$((tries * RETRY_DELAY))"
    done
}

# URL may be several addresses of the same file, with spaces between, tried in turn.
fetch() {
    local file=$2 part=$2.part name records expected advice='' got urls url problem problems resumed
    name=$(basename "$file") records=$(dirname "$file")/.sha256
    [ -e "$CHECKSUMS" ] || fail "the list of checksums, $CHECKSUMS, does not exist"
    expected=${3:-$(look_up "$name" "$CHECKSUMS")}
    if [ -z "$expected" ]; then
        expected=$(look_up "$name" "$records")
        advice="; to accept the change, delete the line of $name in $records"
    fi
    if [ -e "$file" ]; then
        got=$(sha256 "$file")
        if [ -n "$expected" ]; then
            problem="$file has SHA-256 $got, expected $expected"
            [ "$got" = "$expected" ] || fail "$problem; move it away to fetch it again$advice"
        else
            if is_archive "$name" && ! whole "$file" "$name"; then
                fail "$file is not a whole archive; move it away to fetch it again"
            fi
            echo "$got  $name" >>"$records"
        fi
        return 0
    fi

    need curl
    mkdir -p "$(dirname "$file")"
    # A plain file put together from two versions would go unnoticed without a checksum.
    if [ -z "$expected" ] && ! is_archive "$name"; then rm -f "$part"; fi
    IFS=' ' read -r -a urls <<<"$1"
    while :; do
        resumed=
        [ ! -s "$part" ] || resumed=1
        problems=
        for url in "${urls[@]}"; do
            problem=
            if transfer "$url" "$part"; then break; fi
            problems="${problems:+$problems; }$problem"
        done
        if [ -n "$problem" ]; then
            [ -s "$part" ] || rm -f "$part"
            fail "$name was not downloaded: $problems"
        fi
        # curl makes no file of an empty answer.
        [ -e "$part" ] || : >"$part"
        got=$(sha256 "$part")
        if [ -n "$expected" ]; then
            if [ "$got" = "$expected" ]; then break; fi
            problem="$url has SHA-256 $got, expected $expected$advice"
        else
            if ! is_archive "$name" || whole "$part" "$name"; then break; fi
            problem="$url is not a whole archive"
        fi
        rm -f "$part"
        # What an earlier run left may have been the beginning of something else: once more, anew.
        [ -n "$resumed" ] || fail "$name was downloaded and thrown away: $problem"
    done
    [ -n "$expected" ] || echo "$got  $name" >>"$records"
    mv "$part" "$file"
}

there() {
    local folder=$1 file
    shift
    [ -e "$folder" ] || return 1
    for file; do
        [ -s "$folder/$file" ] ||
            fail "$folder is there but has no $file; move it away to fetch it again"
    done
}

scratch=
trap '[ -z "$scratch" ] || rm -rf "$scratch"' EXIT

# Sets $scratch to an empty folder in DIR that goes when the script ends.
new_scratch() {
    mkdir -p "$1"
    scratch=$1/.$2.unpacking
    rm -rf "$scratch"
    mkdir "$scratch"
}

# $scratch/NAME, if it has these files, becomes DIR/NAME.
move_in() {
    local name=$1 dir=$2 file
    shift 2
    for file; do
        [ -s "$scratch/$name/$file" ] || fail "what was downloaded for $name has no $name/$file"
    done
    mv "$scratch/$name" "$dir/$name"
    rm -rf "$scratch"
    scratch=
}

unpack() {
    local archive=$1 name=$2 dir=$3 message status=0
    shift 3
    new_scratch "$dir" "$name"
    case $archive in
        *.zip) message=$("$python" -I -m zipfile -e "$archive" "$scratch" 2>&1) || status=$? ;;
        *.tar.gz) message=$(tar -xzf "$archive" --no-same-owner -C "$scratch" 2>&1) || status=$? ;;
    esac
    [ "$status" = 0 ] || fail "$archive cannot be unpacked: $(tail -n 1 <<<"$message")"
    move_in "$name" "$dir" "$@"
    rm "$archive"
}

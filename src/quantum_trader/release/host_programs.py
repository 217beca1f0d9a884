"""Small fixed programs that a `Host` runs at the other end: files as they are there. Python, standard library alone."""

PUT = """
import hashlib, os, pwd, sys, tempfile
path, mode, owner, size, digest = sys.argv[1:]
folder, name = os.path.split(path)
fd, draft = tempfile.mkstemp(prefix="." + name + ".", dir=folder)
try:
    found, count = hashlib.sha256(), 0
    with os.fdopen(fd, "wb") as file:
        while piece := sys.stdin.buffer.read(1 << 20):
            found.update(piece)
            count += len(piece)
            file.write(piece)
        if count != int(size) or found.hexdigest() != digest:
            sys.exit("arrived with other bytes than were sent")
        if owner:
            user = pwd.getpwnam(owner)
            os.fchown(file.fileno(), user.pw_uid, user.pw_gid)
        os.fchmod(file.fileno(), int(mode, 8))
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
except BaseException:
    os.unlink(draft)
    raise
fd = os.open(folder, os.O_RDONLY)
os.fsync(fd)
"""
"""Write what comes in beside a path, check its digest, and rename it there."""

STAT = """
import grp, json, os, pwd, stat, sys
def name(find, number):
    try:
        return find(number)[0]
    except KeyError:
        return str(number)
try:
    info = os.lstat(sys.argv[1])
except (FileNotFoundError, NotADirectoryError):
    print("null")
else:
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    print(json.dumps({"kind": kinds.get(stat.S_IFMT(info.st_mode), "other"), "size": info.st_size,
        "mode": stat.S_IMODE(info.st_mode), "owner": name(pwd.getpwuid, info.st_uid),
        "group": name(grp.getgrgid, info.st_gid)}))
"""
"""What stands at a path, as JSON."""

READ = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
with os.fdopen(fd, "rb") as file:
    while piece := file.read(1 << 20):
        sys.stdout.buffer.write(piece)
"""
"""The bytes of a file that is no link."""

EACH = """
import base64, json, os, stat, sys
folder, name = sys.argv[1:]
found = {}
for entry in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
    path = os.path.join(folder, entry, name)
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            continue
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        continue
    with os.fdopen(fd, "rb") as file:
        found[entry] = base64.b64encode(file.read()).decode()
print(json.dumps(found))
"""
"""The file of one name in every folder below one, as JSON."""

FREE = "import os, sys; info = os.statvfs(sys.argv[1]); print(info.f_bavail * info.f_frsize)"
CLOCK = "import time; print(time.time_ns() // 1000)"
LIST = "import json, os, sys; print(json.dumps(sorted(os.listdir(sys.argv[1]))))"

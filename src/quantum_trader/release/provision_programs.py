"""Small fixed programs that `provision` runs on a host, and the rights of the engine at the stream server."""

COMMANDS = (
    "multi exec watch unwatch mget get set del type time ping select config|get pttl "
    "xadd xack xtrim xlen xread xrange xrevrange xreadgroup xautoclaim xpending xgroup|create xgroup|createconsumer "
    "xgroup|delconsumer xinfo|groups xinfo|consumers xinfo|stream hget hgetall hmget hset hsetnx hincrby"
)
"""All that engine, archive, watch and the command line ask of a server; nothing of it changes the server itself."""

ACL = f"~quantum:* resetchannels -@all {' '.join('+' + command for command in COMMANDS.split())}"

DIGESTS = """
import hashlib, json, os, sys
found = {}
if os.path.isdir(sys.argv[1]):
    for entry in os.scandir(sys.argv[1]):
        with open(entry.path, "rb") as file:
            found[entry.name] = hashlib.file_digest(file, "sha256").hexdigest()
print(json.dumps(found))
"""
"""SHA-256 of every file in a folder."""

ENTER = """
import hashlib, os, pwd, re, secrets, stat, sys, tempfile
verb, env, users, url, rights = sys.argv[1:]
line = re.compile("^QUANTUM_REDIS_URL=" + re.escape(url).replace(re.escape("{}"), "([A-Za-z0-9_-]{40,})") + "$", re.M)

def read(path):
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""

def replace(path, text, mode, uid, gid):
    descriptor, draft = tempfile.mkstemp(prefix="." + os.path.basename(path) + ".", dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            os.fchown(file.fileno(), uid, gid)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise

def acl(password):
    digest = hashlib.sha256(password.encode()).hexdigest()
    # Nobody can be the default user. But a starting server reads its log with that user's rights: without them Redis
    # 7.0 leaves out every transaction of the log, and begins empty.
    return "user default off resetpass ~* &* +@all\\nuser engine on #" + digest + " " + rights + "\\n"

text = read(env)
found = line.search(text)
if verb == "check":
    sys.exit(not (found and read(users) == acl(found[1])))
password = found[1] if found else secrets.token_urlsafe(32)
owner = pwd.getpwnam("redis")
replace(users, acl(password), 0o640, 0, owner.pw_gid)
if not found:
    info = os.stat(env)
    kept = [each for each in text.splitlines() if not each.startswith("QUANTUM_REDIS_URL=")]
    kept.append("QUANTUM_REDIS_URL=" + url.replace("{}", password))
    replace(env, "\\n".join(kept) + "\\n", stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
"""
"""Make the engine's password and write it where it belongs, or check that it stands there; prints nothing."""

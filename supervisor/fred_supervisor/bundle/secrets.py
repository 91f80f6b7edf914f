"""What looks like a secret is taken out of what is sent to somebody else. A person should look all the same.

Each pattern takes time in proportion to the text: repetitions that may fail are bounded, or begin at a fixed word.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from fred_supervisor.contract import environment

HIDDEN: Final = "***"

_SAID: Final = (
    r"(?<!\b(?:cls|pad|eos|bos|unk|sep)_)(?<!\bmask_)(?<!\bnext_)(?<!\bper_)"
    r"token(?!s|iz|is|_(?:ids?|len|length|count|type|embed\w{0,8}|mask|idx|index|dim)(?![a-z]))"
)
"""A language model has other ones: `tokenizer`, `pad_token`, `token_ids`, `max_tokens`."""
_STEM: Final = (
    rf"(?:{_SAID}|secret|passw|passphrase|(?:(?<![a-z])|pg|my|db)pass(?![a-z])|(?<![a-z])pwd(?![a-z])"
    r"|(?:api|access|private|account|auth|sign|signing|encrypt|encryption|shared|master|deploy|client|license|ssh|storage)"
    r"[_ -]?keys?(?![a-z])|credential|authorization|(?<![a-z])auth(?![a-z])|cookie)"
)
_REST: Final = r"[\w.-]{0,60}+"
_IS: Final = r"\\{0,3}[\"']?[ \t]{0,8}\]?[ \t]{0,8}(?:=>|->|:=|:|=(?!=))(?:[ \t]{0,8}|[\s+-]{0,80}(?=[\"']))"
"""What stands between a name and its value, in Python, JSON, YAML and a shell."""
_IS_SAID: Final = (
    r"(?:[ \t]{1,4}(?:for|of)[ \t]{1,4}\S{1,40})?[ \t]{1,4}"
    r"(?:is|was|are|equals|(?:(?:is|was)[ \t])?(?:set|changed)[ \t]to)[ \t]{1,4}"
    r"(?!(?:not|no|never|now|still|too|an?|the|this|that|in|for|to|of|on|by|set|unset|used|read|sent|needed|required"
    r"|changed|missing|wrong|invalid|incorrect|expired|empty|valid|ok|weak|stored|hidden|given|being)\b)"
)
"""And in a sentence: what is said of a secret is none."""
_NEXT: Final = r"\\{0,3}[\"'][ \t]{0,8},[ \t]{0,8}(?=[\"'])"
"""Between the two arguments of `setdefault("HF_SAID", "…")`."""
_SCHEME: Final = r"(?:(?:bearer|basic|token|apikey|digest|negotiate)[ \t]+)?"
_QUOTED: Final = (
    r"(?:[rbfu]{0,2}(?:\"\"\"[^\"]*(?:\"\"\"|\Z)|'''[^']*(?:'''|\Z)|\"(?:\\.|[^\"\\\n])*+(?:\"|$)|'(?:\\.|[^'\\\n])*+(?:'|$))"
    r"|\\{1,3}[\"'][^\"'\n]*[\"']?)"
)
_ONE: Final = rf"(?:{_QUOTED}|[(\[{{][^)\]}}\n]*[)\]}}]?|[\w.]{{1,40}}\[[^\]\n]{{0,80}}\]|\S+)"
_VALUE: Final = rf"{_ONE}(?:[ \t]{{0,8}}{_QUOTED}|[ \t]{{1,8}}(?:[|=+]|or|if|else)[ \t]{{1,8}}{_ONE}){{0,6}}"
_END: Final = r"[ \t]{0,8}(?:[,;)\]}\n]|\Z)"
_TYPE: Final = r"(?:none|true|false|null|str|int|float|bool|bytes|any)\b"
_PLAIN: Final = rf"(?:{_TYPE}(?:[ \t]{{0,4}}[|=][ \t]{{0,4}})?){{1,5}}{_END}"
"""No secret: a type, or nothing."""
_TEXTS: Final = rf"tokens(?![a-z]){_REST}{_IS}(?=[\[({{]?[\"'])|(?-i:TOKENS)=(?=[^\s\d])"
"""Several tokens are secrets where they are texts: `max_tokens = 512` is none."""
_CALLED: Final = rf"{_SAID}{_REST}[ \t]=[ \t][a-z_][\w.]{{0,60}}[(\[][^\"'\n]{{0,200}}+(?:\n|\Z)"
"""`token = tokens[i]`: code without a text in it."""
_ASSIGNED: Final = re.compile(
    rf"(?!{_CALLED})(?P<head>(?:{_STEM}{_REST}(?:{_IS}|{_NEXT}|{_IS_SAID})|{_TEXTS}){_SCHEME})(?!{_PLAIN}){_VALUE}",
    re.IGNORECASE | re.MULTILINE,
)
_FLAG: Final = re.compile(rf"--?(?:key|[\w-]{{0,40}}?{_STEM}{_REST})", re.IGNORECASE)
_FLAG_IN_TEXT: Final = re.compile(rf"(?<![\w-])(?P<head>{_FLAG.pattern}[ \t]{{1,8}}(?!--)){_VALUE}", re.IGNORECASE)
_USER: Final = re.compile(r"(?<![\w-])(?P<head>(?:-u|--user|--proxy-user)[ =]?[^\s:=]{1,80}:)\S+")
_CHINESE: Final = re.compile(r"(?P<head>(?:密码|口令|密钥|令牌)[ \t]{0,4}(?:是|为|：|:|=)[ \t]{0,4})\S+")
_LOGIN_OF: Final = r"(?:docker|podman|nerdctl|buildah|skopeo|helm|az|oc)[ \t]{1,4}(?:registry[ \t])?login"
_OF_PROGRAMS: Final = (
    (rf"(?:sshpass|mysql\w{{0,10}}|mariadb[\w-]{{0,10}}|mongo\w{{0,8}}|7z[ar]?|{_LOGIN_OF})", r"-p[ \t]{0,4}"),
    (r"redis-cli", r"-a[ \t]{0,4}"),
    (r"(?:un)?zip", r"-P[ \t]{0,4}"),
    (r"ldap\w{3,8}", r"-w[ \t]{0,4}"),
    (r"openssl", r"(?:-k[ \t]{1,4}|-pass(?:in|out)?[ \t]{1,4}pass:)"),
)
_OF_PROGRAM: Final = re.compile(
    r"(?P<head>(?<![\w-])(?:"
    + "|".join(rf"{program}\b[^\n|;&]{{0,200}}?[ \t]{flag}" for program, flag in _OF_PROGRAMS)
    + rf"))(?!-)(?P<value>{_QUOTED}|\S+)"
)
"""Short flags of programs that take a password."""
_BEFORE: Final = 240
"""Characters of a command line in which such a program is looked for."""
_HEADER: Final = re.compile(
    rf"(?P<head>\b(?:authorization|cookie)\\{{0,3}}[\"']?[ \t]{{0,8}}:[ \t]{{0,8}}\\{{0,3}}[\"']?{_SCHEME})[^\"'\n\\]+",
    re.IGNORECASE,
)
_BEARER: Final = re.compile(r"(?P<head>\bbearer[ \t]{1,8})[\w.~+/=-]{8,}", re.IGNORECASE)
_LOGIN: Final = re.compile(r"(?P<head>\blogin\()(?=[^)\n]{0,200}[\"'])[^)\n]{1,400}")
_KEY: Final = re.compile(r"(?P<head>\bkey[ \t]{0,4}=[ \t]{0,4}[\"'])[0-9a-f]{32,}", re.IGNORECASE)
_IN_URL: Final = re.compile(
    r"(?P<head>://)(?:[^\s/@:\"'<>]{0,256}:(?!\d{1,5}(?:[/?#]|\b(?!@)))[^\s\"'<>]{0,256}|[^\s/@:\"'<>]{1,256})(?P<tail>@)"
)
_QUERY: Final = re.compile(
    r"(?P<head>[?&](?:sig|signature|key|code|x-amz-[\w-]{1,30}|x-goog-[\w-]{1,30})=)[^\s&\"'<>]+", re.IGNORECASE
)
_WEBHOOK: Final = re.compile(
    r"(?P<head>hooks\.slack\.com/|api\.telegram\.org/(?:file/)?bot|discord(?:app)?\.com/api/webhooks/"
    r"|webhook\.office\.com/|ntfy\.sh/|ntfys?://[\w.:-]{1,80}/|hc-ping\.com/|oapi\.dingtalk\.com/robot/send\?|open\.feishu\.cn/open-apis/bot/"
    r"|qyapi\.weixin\.qq\.com/cgi-bin/webhook/)[^\s\"'<>]+",
    re.IGNORECASE,
)
_KNOWN: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{16,}|sk-[\w-]{20,}"
    r"|xox[a-z]-[\w-]{10,}|A[KS]IA[A-Z0-9]{16}|AIza[\w-]{12,}|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{40,}|\d{6,12}:AA[\w-]{20,})"
    r"|(?<![\w-])eyJ[\w-]{5,}\.[\w-]{2,}(?:\.[\w-]*)?"
)
"""Tokens of GitHub, GitLab, Hugging Face, OpenAI, Slack, AWS, Google, npm, PyPI and Telegram, and JSON web tokens."""
_PRIVATE: Final = re.compile(
    r"(?P<head>-----BEGIN [A-Z ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----)(?P<body>.*?)(?=-----END|\Z)", re.DOTALL
)
_AFTER_HEAD: Final = (
    _WEBHOOK, _QUERY, _HEADER, _BEARER, _LOGIN, _KEY, _ASSIGNED, _FLAG_IN_TEXT, _USER, _OF_PROGRAM, _CHINESE,
)  # fmt: skip
_NAME: Final = re.compile(rf"{_STEM}|tokens(?![a-z])", re.IGNORECASE)
_WORD: Final = re.compile(rf"(?P<head>-{{0,2}}[\w.-]{{0,60}}?{_STEM}{_REST}=).+", re.IGNORECASE | re.DOTALL)


def without_secrets(text: str) -> str:
    """`text` with `***` where a secret seems to stand."""
    text = _PRIVATE.sub(_lines_hidden, text)
    text = _IN_URL.sub(rf"\g<head>{HIDDEN}\g<tail>", text)
    text = _KNOWN.sub(HIDDEN, text)
    for pattern in _AFTER_HEAD:
        text = pattern.sub(rf"\g<head>{HIDDEN}", text)
    return text


def _lines_hidden(found: re.Match[str]) -> str:
    return found["head"] + re.sub(r"[^\n\0]+", HIDDEN, found["body"])


def document_without_secrets(value: object, name: str = "") -> object:
    """The same for every text in a JSON document; `name` is the key that leads to it."""
    secret = _NAME.search(name) is not None
    if isinstance(value, str):
        return HIDDEN if secret else without_secrets(value)
    if isinstance(value, Mapping):
        said = str(value.get("name", ""))  # {"name": "HF_SAID", "value": …}
        return {
            key: document_without_secrets(one, name if secret else said if key == "value" else str(key))
            for key, one in value.items()
        }
    if isinstance(value, list | tuple):
        if not secret and all(isinstance(one, str) for one in value):
            return words_without_secrets(value)
        return [document_without_secrets(one, name) for one in value]
    return value


def words_without_secrets(words: Sequence[str]) -> list[str]:
    """A command line, or lines of text; the word after `--token` is a secret, too."""
    before, found = "", list[str]()
    for word, last in zip(_without_private(words), ["", *words], strict=False):
        before = f"{before} {last}"[-_BEFORE:]
        found.append(_word(_without_value(word, before), last))
    return found


def _without_value(word: str, before: str) -> str:
    """A word that begins in, or is, the password of the program in the words before."""
    for match in _OF_PROGRAM.finditer(f"{before} {word}"):
        at = match.start("value") - len(before) - 1
        if at >= 0:
            return word[:at] + HIDDEN
    return word


def _without_private(words: Sequence[str]) -> list[str]:
    """A private key may lie across several of them."""
    return _PRIVATE.sub(_lines_hidden, "\0".join(word.replace("\0", "") for word in words)).split("\0")


def _word(word: str, last: str) -> str:
    if _FLAG.fullmatch(last) and not word.startswith("--"):
        return HIDDEN
    if last in ("-u", "--user", "--proxy-user") and ":" in word:
        return f"{word.partition(':')[0]}:{HIDDEN}"
    whole = _WORD.fullmatch(word)
    return f"{whole['head']}{HIDDEN}" if whole else without_secrets(word)


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """What of an environment is told: names of the list, and none that sounds like a secret."""
    return {
        name: without_secrets(value)
        for name, value in sorted(environ.items())
        if name.startswith(environment.OF_COMPUTATION) and not _NAME.search(name)
    }

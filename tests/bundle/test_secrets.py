"""What looks like a secret is hidden, ordinary code stays readable, and neither takes long."""

import time

import pytest

from fred_supervisor.bundle.secrets import document_without_secrets, without_secrets, words_without_secrets

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.S3CRET_abc"


@pytest.mark.parametrize(
    "text",
    [
        'API_KEY: str = "S3CRET"',
        'api_token: str | None = "S3CRET"',
        'auth_token: Dict[str, str] = "S3CRET"',
        'os.environ["WANDB_API_KEY"] = "S3CRET"',
        "os.environ['NEPTUNE_API_TOKEN'] = f'S3CRET'",
        'os.environ.setdefault("HF_TOKEN", "S3CRET")',
        'os.getenv("COMET_API_KEY","S3CRET")',
        'wandb.login(key="S3CRET")',
        'huggingface_hub.login("S3CRET")',
        "Authorization: token S3CRET",
        'curl -H "Authorization: ApiKey S3CRET"',
        'headers = {"Authorization": "Digest user=me, S3CRET"}',
        "Cookie: a=b; session=S3CRET",
        "postgres://u:pa/S3CRET@db",
        "https://S3CRET@git.x/y",
        "https://user:p@S3CRET@host",
        "redis://:S3CRET@host:6379/0",
        "sh -c 'train --token S3CRET'",
        "train --api-key -S3CRET",
        "curl -u me:S3CRET https://x",
        "db_pwd = S3CRET",
        "MYSQL_PWD=S3CRET",
        "export PGPASS=S3CRET",
        "passphrase: S3CRET",
        "private_key=S3CRET",
        "AccountName=a;AccountKey=S3CRET==;EndpointSuffix=x",
        "https://hooks.slack.com/services/T0/B0/S3CRET",
        "https://api.telegram.org/bot12:S3CRET/sendMessage",
        "https://discord.com/api/webhooks/1/S3CRET",
        "ntfy://ntfy.sh/my-S3CRET-topic",
        "ntfys://ntfy.example.org/S3CRET",
        "https://x.blob.core.windows.net/d?se=1&sig=S3CRET",
        f"jwt {JWT}",
        "glpat-0123456789S3CRETabcd",
        "ghp_0123456789S3CRETabcd",
        "hf_0123456789S3CRETabcd",
        "AIzaSy0123456789S3CRETabcd",
        "sk-proj-0123456789S3CRETabcd",
        'token = "a" "S3CRET"',
        'password = get() or "S3CRET"',
        'password="a\\"b S3CRET"',
        'token="""S3CRET word"""',
        '{"password":\n  "S3CRET"}',
        '+    "client_secret":\n+        "S3CRET",',
        '"{\\"api_key\\": \\"correct S3CRET\\"}"',
        "{'auth': ('me', 'S3CRET')}",
        "HF_TOKENS=S3CRET",
        'tokens = ["S3CRET"]',
        "-----BEGIN OPENSSH PRIVATE KEY-----\nS3CRET\n-----END OPENSSH PRIVATE KEY-----",
        "+-----BEGIN PRIVATE KEY-----\n+MIIE\n+S3CRET",
    ],
)
def test_a_secret_is_hidden(text: str):
    found = without_secrets(text)
    assert "S3CRET" not in found
    assert "***" in found


@pytest.mark.parametrize(
    "text",
    [
        'tokenizer = AutoTokenizer.from_pretrained("bert-base")',
        "max_tokens = 512",
        "num_tokens: int = 512",
        "best = sorted(found, key=lambda x: x)",
        "token = tokens[i]",
        "tokens = tokens.to(device)",
        "cls_token = nn.Parameter(torch.zeros(1, 1, dim))",
        'eos_token="</s>", pad_token_id=0',
        "def f(token: str, n: int) -> None:",
        "password: str | None = None",
        "api_key=None)",
        'if token == "[MASK]":',
        "bypass = first_passed",
        "author: Bob",
        "keypoints = model(x)",
        "wandb.login()",
        "pip install git+https://github.com/x/y@main",
        "http://host:8080/@scope/package",
        "https://medium.com/@somebody/text",
        "tcp://10.0.0.1:29500",
        "python -u train.py --max-tokens 5",
        "index 3f3cabcd..4f5dabcd 100644",
        "KeyError: 'api_key'",
        "sha256:0123456789abcdef0123456789abcdef",
    ],
)
def test_ordinary_code_stays_readable(text: str):
    assert without_secrets(text) == text


def test_a_key_is_hidden_where_it_looks_like_one():
    assert without_secrets(f'init(key="{"0123456789abcdef" * 2}")') == 'init(key="***")'
    assert without_secrets('plot(key="val_loss")') == 'plot(key="val_loss")'


def test_a_private_key_keeps_its_lines():
    """So that a diff that has one still fits."""
    text = "a\n-----BEGIN RSA PRIVATE KEY-----\nx\ny\n-----END RSA PRIVATE KEY-----\nb"
    hidden = text.replace("\nx\ny\n", "\n***\n***\n")
    assert without_secrets(text) == hidden
    assert document_without_secrets({"tail": text.splitlines()}) == {"tail": hidden.splitlines()}


@pytest.mark.parametrize(
    ("words", "hidden"),
    [
        (["x", "--pass", "S3CRET"], ["x", "--pass", "***"]),
        (["curl", "-u", "me:S3CRET"], ["curl", "-u", "me:***"]),
        (["x", "--password=correct horse S3CRET"], ["x", "--password=***"]),
        (["x", "--password", "correct S3CRET"], ["x", "--password", "***"]),
        (["env", "DB_PWD=a b"], ["env", "DB_PWD=***"]),
        (["sh", "-c", "train --token S3CRET --epochs 3"], ["sh", "-c", "train --token *** --epochs 3"]),
        (["x", "--api-key", "-S3CRET"], ["x", "--api-key", "***"]),
        (["x", "--max-tokens", "512", "--tokenizer", "bert"], ["x", "--max-tokens", "512", "--tokenizer", "bert"]),
        (["python", "-u", "train.py"], ["python", "-u", "train.py"]),
        (["x", "--use-token", "--epochs", "3"], ["x", "--use-token", "--epochs", "3"]),
    ],
)
def test_a_command_line(words: list[str], hidden: list[str]):
    assert words_without_secrets(words) == hidden


def test_all_below_a_secret_name_is_hidden():
    document = {
        "token": ["S3CRET", {"a": ("S3CRET",)}],
        "env": [{"name": "HF_TOKEN", "value": "S3CRET"}, {"name": "HOME", "value": "/root"}],
        "command": ["x", "--token", "S3CRET"],
        "tokens": 512,
    }
    assert document_without_secrets(document) == {
        "token": ["***", {"a": ["***"]}],
        "env": [{"name": "HF_TOKEN", "value": "***"}, {"name": "HOME", "value": "/root"}],
        "command": ["x", "--token", "***"],
        "tokens": 512,
    }


UNITS = ["z", "aGVsbG8r", "token", "token=", "token='\"", "a://b:", " --a-", "login(", "eyJ", "password -", '\\"', "token=a | "]  # fmt: skip


@pytest.mark.parametrize("unit", [*UNITS, "tokens=[", "-----BEGIN PRIVATE KEY-----", '"""', "\n", "?key=", "-u a:"])
def test_a_long_line_takes_time_in_proportion(unit: str):
    """Time of the process: four times the text takes four times as long, sixteen times where it were quadratic."""

    def cost_s(size: int) -> float:
        text = (unit * (size // len(unit) + 1))[:size]
        began_s = time.process_time()
        without_secrets(text)
        return time.process_time() - began_s

    short_s = min(cost_s(1 << 16) for _ in range(2))
    assert cost_s(1 << 18) < 9 * short_s + 0.1


@pytest.mark.parametrize(
    "text",
    [
        "sshpass -p {} ssh a@b -p 22", "sshpass -p{} scp a b", "mysqldump -u root -p{} db", "docker login -u me -p {} host",
        "redis-cli -h h -a {} ping", "unzip -P {} a.zip", "openssl enc -k {}", "openssl rsa -passin pass:{}",
        "the password is {}", "password for bob was {}", "Password was changed to {}", "api key is {}", "密码是{}", "密码：{}",
    ],
)  # fmt: skip
def test_a_password_after_a_short_flag_or_in_a_sentence_is_hidden(text: str):
    told = text.format("hunter2")
    assert "hunter2" not in without_secrets(told)
    assert without_secrets(told).startswith(text.split("{}", maxsplit=1)[0])
    if " -p" in told:
        assert "hunter2" not in " ".join(words_without_secrets(told.split(" ")))


@pytest.mark.parametrize(
    "text",
    [
        "docker run -p 80:80 image", "ssh login@host -p 22", "mkdir -p a/b", "python train.py -p 3", "token is invalid",
        "secret is not set", "password authentication is slow here", "the token count is 512", "tokenizer is fast",
    ],
)  # fmt: skip
def test_what_is_said_of_a_secret_is_none(text: str):
    assert without_secrets(text) == text
    assert words_without_secrets(text.split(" ")) == text.split(" ")

"""Certificates for tests, made with the openssl command in a directory of the test's own."""
import os
import subprocess

CONFIG = """
[req]
distinguished_name = dn
prompt = no
[dn]
O = tests
CN = %(cn)s
[ext]
basicConstraints = critical, CA:%(ca)s
subjectKeyIdentifier = hash
%(more)s
[crl]
database = %(dir)s/index.txt
default_md = sha256
default_crl_days = 1
"""


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError("%s: %s" % (" ".join(words), done.stderr))


class Authority:
    """A key of one's own and what it signs, as files in `directory`."""

    def __init__(self, directory, name):
        self.directory, self.name = directory, name
        self.serial = 1000
        self.cert, self.key = self.path(name + ".pem"), self.path(name + ".key")
        self.new_key(self.key, "ec")
        self.config(name, True, "")
        run("openssl", "req", "-x509", "-new", "-key", self.key, "-config", self.path("openssl.cnf"), "-extensions", "ext", "-days", "2",
            "-out", self.cert)

    def path(self, name):
        return os.path.join(self.directory, name)

    def config(self, cn, ca, more):
        with open(self.path("openssl.cnf"), "w") as f:
            f.write(CONFIG % {"cn": cn, "ca": str(ca).upper(), "more": more, "dir": self.directory})

    @staticmethod
    def new_key(path, kind):
        words = {"ec": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "ed25519": ["ED25519"]}
        run("openssl", "genpkey", "-algorithm", *words[kind], "-out", path)

    def make(self, file, cn=None, sans="DNS:localhost,IP:127.0.0.1", kind="ec", days=1, ca=False, key_id=True):
        """FILE.pem and FILE.key; days < 0: it has expired; without `key_id` it does not say which key signed it."""
        self.serial += 1
        key, request, cert = self.path(file + ".key"), self.path(file + ".csr"), self.path(file + ".pem")
        self.new_key(key, kind)
        more = ("subjectAltName = %s\n" % sans if sans else "") + "extendedKeyUsage = serverAuth, clientAuth"
        more += "" if key_id else "\nauthorityKeyIdentifier = none"
        self.config(cn or file, ca, more)
        run("openssl", "req", "-new", "-key", key, "-config", self.path("openssl.cnf"), "-out", request)
        run("openssl", "x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-set_serial", str(self.serial), "-days", str(days),
            "-extfile", self.path("openssl.cnf"), "-extensions", "ext", "-out", cert)
        return cert, key

    def revoke(self, file, *serials):
        """A list of these serial numbers, DER."""
        with open(self.path("index.txt"), "w") as f:
            for s in serials:
                f.write("R\t301231235959Z\t260101000000Z\t%04X\tunknown\t/CN=x\n" % s)
        self.config("x", False, "")
        run("openssl", "ca", "-gencrl", "-config", self.path("openssl.cnf"), "-name", "crl", "-keyfile", self.key, "-cert", self.cert,
            "-out", self.path(file + ".tmp"))
        run("openssl", "crl", "-in", self.path(file + ".tmp"), "-outform", "DER", "-out", self.path(file))
        return self.path(file)

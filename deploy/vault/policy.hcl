# What Chandlery does in Vault or OpenBao, and nothing else. For another mount than `secret` (--vault-mount) or another prefix than
# `chandlery` (--vault-prefix), change the first three paths.

# Refuse an engine that would keep earlier versions of secrets, or delete secrets after some time.
path "secret/config" {
  capabilities = ["read"]
}

# Read secrets, store the first ones, and replace them.
path "secret/data/chandlery/*" {
  capabilities = ["read", "create", "update"]
}

# List what is stored, let Vault keep one version of it, and delete it with all versions.
path "secret/metadata/chandlery/*" {
  capabilities = ["list", "patch", "delete"]
}

# See when the token ends, and renew it.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}

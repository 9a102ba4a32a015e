# What Chandlery does with the key `chandlery` of the Transit engine (--vault-transit-key, --vault-transit-mount), and nothing else. Add it to the policies of the
# login. It allows neither to make the key nor to read it.

path "transit/encrypt/chandlery" {
  capabilities = ["update"]
}
path "transit/decrypt/chandlery" {
  capabilities = ["update"]
}

# See when the token ends.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

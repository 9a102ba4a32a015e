module chandlery.dev/integration-tests

go 1.24

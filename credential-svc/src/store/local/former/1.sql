BEGIN TRANSACTION;
CREATE TABLE effective (installation TEXT PRIMARY KEY, generation BIGINT NOT NULL, fingerprint BLOB NOT NULL);
CREATE TABLE key_check (
        digest BLOB NOT NULL
    );
INSERT INTO "key_check" VALUES(X'C67DAC19F5D375120317BF01C80BAA81016F437BDCA2147C4F84E3998530DBC1');
CREATE TABLE records (
        owner TEXT PRIMARY KEY,
        generation BIGINT NOT NULL,
        bound_destination TEXT NOT NULL,
        erased BOOLEAN NOT NULL
    );
INSERT INTO "records" VALUES('installation:a',2,'https://example.com',0);
INSERT INTO "records" VALUES('entry:e',1,'https://example.com',0);
INSERT INTO "records" VALUES('installation:empty',2,'',0);
INSERT INTO "records" VALUES('installation:gone',1,'',1);
INSERT INTO "records" VALUES('installation:outgrown',6,'',0);
INSERT INTO "records" VALUES('installation:broken',1,'https://example.com',0);
CREATE TABLE requests (
        user_id TEXT NOT NULL,
        request_id TEXT NOT NULL,
        owner TEXT NOT NULL REFERENCES records (owner),
        time BIGINT NOT NULL,
        digest BLOB NOT NULL,
        summary TEXT NOT NULL,
        PRIMARY KEY (user_id, request_id)
    );
INSERT INTO "requests" VALUES('u','00000000-0000-0000-0000-000000000001','installation:a',1700000000000000,X'0909090909090909090909090909090909090909090909090909090909090909','{"name":"installations/a/credential","generation":1,"fields":{"token":{"generation":1,"update_time":7}},"missing":[],"bound_destination":"","present_destination":"","bound_description":"","present_description":""}');
INSERT INTO "requests" VALUES('u','00000000-0000-0000-0000-000000000002','installation:a',1700000100000000,X'0909090909090909090909090909090909090909090909090909090909090909','{"name":"installations/a/credential","generation":2,"fields":{"token":{"generation":2,"update_time":7}},"missing":[],"bound_destination":"","present_destination":"","bound_description":"","present_description":""}');
CREATE TABLE secrets (
        owner TEXT NOT NULL REFERENCES records (owner),
        field TEXT NOT NULL,
        generation BIGINT NOT NULL,
        update_time BIGINT NOT NULL,
        nonce BLOB NOT NULL,
        sealed BLOB NOT NULL,
        PRIMARY KEY (owner, field)
    );
INSERT INTO "secrets" VALUES('installation:a','other',1,1700000000000000,X'BB2EC600A2F992E3297BC9B1',X'BF6F430D3841BE39E7C4E6B447EBE8CF56');
INSERT INTO "secrets" VALUES('installation:a','token',2,1700000100000000,X'850ADCFAD9FA86B176A919EF',X'5CE2040D550656828FDBB26CBC02746855C5AC');
INSERT INTO "secrets" VALUES('entry:e','shared',1,7,X'170C89242F2EBD601B60DA37',X'77D0D8C7F73F9DD6F525D0C75EFE519F5DE01379A0E5BDAE959D4AA61649');
INSERT INTO "secrets" VALUES('installation:broken','token',1,7,X'20071AB7CB4CFBCE456160C0',X'00');
INSERT INTO "secrets" VALUES('installation:broken','other',1,7,X'64911B07347B377492F32914',X'71FB1DA989CF3CE465BBA2400E74DD2F12');
CREATE INDEX requests_by_time ON requests (time);
CREATE INDEX requests_by_owner ON requests (owner);
COMMIT;
PRAGMA user_version = 1;

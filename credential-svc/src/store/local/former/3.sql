BEGIN TRANSACTION;
CREATE TABLE key_check (
        digest BLOB NOT NULL
    );
INSERT INTO "key_check" VALUES(X'C67DAC19F5D375120317BF01C80BAA81016F437BDCA2147C4F84E3998530DBC1');
CREATE TABLE records (
        owner TEXT PRIMARY KEY,
        generation BIGINT NOT NULL,
        bound_destination TEXT NOT NULL,
        erased BOOLEAN NOT NULL
    , agreed_nonce BLOB, agreed BLOB);
INSERT INTO "records" VALUES('installation:a',2,'https://example.com',0,X'3D527C66CDE82209E7066605',X'12CFB2CAC71470F42F56F0E68BE83F34B9ADBF560376B15B355DD36807E82A4E776A3F8C9FA751F0259905FD5679993FB0');
INSERT INTO "records" VALUES('entry:e',1,'https://example.com',0,X'F3058F0BFD5E4250A60F130C',X'7C5F394B7499DABFA0B2764AB9B4F1B6EF20DEFB8BF81F710E6DCE386C78C6D99F5D3CE102394B34B2CC911A59A3D21875');
INSERT INTO "records" VALUES('installation:empty',2,'',0,NULL,NULL);
INSERT INTO "records" VALUES('installation:gone',1,'',1,NULL,NULL);
INSERT INTO "records" VALUES('installation:outgrown',6,'',0,NULL,NULL);
INSERT INTO "records" VALUES('installation:broken',1,'https://example.com',0,X'9B29A4542C221E8223028FF9',X'29D48C3F3537761B394BD521E84370DB463111267D6FD4C67FEBE39F8031DE6F7176D02E6D78688C8CF42CA7B0F5EFB87D');
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
INSERT INTO "secrets" VALUES('installation:a','other',1,1700000000000000,X'99DA65ED738A4682B1E98ADB',X'ABE4E64BC8039C439CF18473FB369A363D');
INSERT INTO "secrets" VALUES('installation:a','token',2,1700000100000000,X'B8437B7F5916AC49E3A17BEF',X'2572D68DCCFD24915D759E3A471665CDCA00EB');
INSERT INTO "secrets" VALUES('entry:e','shared',1,7,X'CEF33EB9D5E44B7CD2C60A5E',X'49164678F9E9FE5E2BF5958582C96B779CCA98500D839F466216CEEC87CE');
INSERT INTO "secrets" VALUES('installation:broken','token',1,7,X'EC18DF6EAFCE6080477DBB14',X'00');
INSERT INTO "secrets" VALUES('installation:broken','other',1,7,X'331B1AD54EED5F2CF0BC57EE',X'1050614F7109ABF81E9A64A09C8B0EE928');
CREATE INDEX requests_by_time ON requests (time);
CREATE INDEX requests_by_owner ON requests (owner);
COMMIT;
PRAGMA user_version = 3;

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
INSERT INTO "secrets" VALUES('installation:a','other',1,1700000000000000,X'E5C86C34DD2D89268B5927C9',X'15B17D6A744DC728F11AC2BDCC71C033B8');
INSERT INTO "secrets" VALUES('installation:a','token',2,1700000100000000,X'2AEF1933767C2DD55E892E3E',X'941D14720B384A20EAB254002F6100E260EC60');
INSERT INTO "secrets" VALUES('entry:e','shared',1,7,X'455EF04C248C7C64B9406257',X'ABF881E54D9D7EE9CD9298D3D6A591BC1E4A502DCE18321A59A289C74DE8');
INSERT INTO "secrets" VALUES('installation:broken','token',1,7,X'96EAC86E3C6F5A30B483E4B0',X'00');
INSERT INTO "secrets" VALUES('installation:broken','other',1,7,X'1A4AB1BA3EE5C0FF2DC1496D',X'2E3F94534DE3606A0AD00380AA8E65ED05');
CREATE INDEX requests_by_time ON requests (time);
CREATE INDEX requests_by_owner ON requests (owner);
COMMIT;
PRAGMA user_version = 2;

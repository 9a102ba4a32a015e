-- Whether the user is a program, as last seen in a token.
ALTER TABLE users ADD COLUMN machine BOOLEAN NOT NULL DEFAULT FALSE;

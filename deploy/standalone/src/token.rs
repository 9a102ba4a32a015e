//! `chandlery token`: a JWT of the development issuer.

use std::{
    io::Write as _,
    time::{Duration, SystemTime},
};

use crate::{cli::Token, data_dir::DataDir, dev_issuer::DevIssuer};

/// Prints the token, and nothing else, on standard output.
pub(crate) fn print(arguments: &Token) -> Result<(), Box<dyn std::error::Error>> {
    let folder = DataDir::open(&arguments.data_dir)?;
    let issuer = DevIssuer::open(folder.path())?;
    let ttl = Duration::from_secs(arguments.ttl);
    let token = issuer.mint(
        &arguments.user,
        &arguments.team,
        arguments.admin,
        ttl,
        SystemTime::now(),
    );
    writeln!(std::io::stdout(), "{token}")?;
    Ok(())
}

/// Takes what looks like an email address.
pub(crate) fn email(text: &str) -> Result<String, String> {
    let valid = text.len() <= 254
        && text
            .split_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
        && text.chars().all(|c| !c.is_whitespace() && !c.is_control());
    if valid {
        Ok(text.to_owned())
    } else {
        Err("must be an email address, such as alice@example.com".to_owned())
    }
}

//! Compiles the contracts with protox: no protoc needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PACKAGES: [(&str, &[&str]); 4] = [
    (
        "registry",
        &[
            "agent",
            "condition",
            "credential_model",
            "entry",
            "error_reason",
            "feature",
            "gateway",
            "gateway_token",
            "injection",
            "installation",
            "report",
            "runtime",
            "team",
            "tool_assignment",
            "user",
            "visibility",
            "watch",
        ],
    ),
    ("credential", &["credential", "error_reason", "vend"]),
    ("orchestrator", &["error_reason", "runtime"]),
    ("gateway", &["error_reason", "tool"]),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=chandlery");
    println!("cargo:rerun-if-changed=google");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut all = Vec::new();
    for (package, files) in PACKAGES {
        let paths: Vec<String> = files
            .iter()
            .map(|file| format!("chandlery/{package}/v1/{file}.proto"))
            .collect();
        let mut compiler = protox::Compiler::new(["."])?;
        compiler.include_source_info(true).include_imports(true);
        compiler.open_files(&paths)?;
        // What reflection serves keeps the comments: they are the reference people read with grpcurl.
        fs::write(
            out.join(format!("{package}.descriptors")),
            compiler.encode_file_descriptor_set(),
        )?;
        all.extend(paths);
    }
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(&all)?;
    fs::write(out.join("all.descriptors"), compiler.encode_file_descriptor_set())?;
    let set = prost_types::FileDescriptorSet::decode(compiler.encode_file_descriptor_set().as_slice())?;
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .skip_debug(SECRET_MESSAGES)
        .codec_path("crate::codec::Codec")
        .compile_fds_with_config(set, config)?;
    Ok(())
}

/// Messages with a secret in a field: `src/redacted.rs` gives them a `Debug` that shows none.
const SECRET_MESSAGES: [&str; 7] = [
    "chandlery.credential.v1.Caller",
    "chandlery.credential.v1.FinishAuthorizationRequest",
    "chandlery.credential.v1.SecretValue",
    "chandlery.credential.v1.VendedHeader",
    "chandlery.credential.v1.VendedField",
    "chandlery.registry.v1.CreateGatewayTokenResponse",
    "chandlery.registry.v1.WatchedGatewayToken",
];

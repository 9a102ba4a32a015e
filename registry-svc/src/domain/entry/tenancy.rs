//! What an entry can be whose installations share a server.

use contracts::registry as pb;
use pb::{InstallField, Tenancy, entry::Server, install_field::Target, self_hosted_server::Transport};
use registry_model::{install_fields, tenancy};
use service_kit::status::Violations;

/// Why a value cannot go to the server.
const ONLY_IN_HEADERS: &str = "is not possible for a value that each installation provides, since all share one process, which is started once: \
    send the value in a header, store it on the entry (source STORED), or set streamable_http.tenancy to ONE_PER_INSTALLATION";

/// Writes the default out.
pub(super) fn make_explicit(server: &mut pb::SelfHostedServer) {
    if let Some(Transport::StreamableHttp(http)) = &mut server.transport
        && http.tenancy == i32::from(Tenancy::Unspecified)
    {
        http.set_tenancy(Tenancy::OnePerInstallation);
    }
}

/// Whether the installations of an entry share a process of its server.
pub(super) fn is_shared(entry: &pb::Entry) -> bool {
    matches!(&entry.server, Some(Server::SelfHosted(server)) if tenancy::shares(server))
}

/// Checks where the value of a field goes.
pub(super) fn check_field(violations: &mut Violations, entry: &pb::Entry, field: &InstallField) {
    if !is_shared(entry) || !install_fields::is_prompted(field) {
        return;
    }
    let target = match &field.target {
        Some(Target::EnvironmentVariable(_)) => "environment_variable",
        Some(Target::MountedFile(_)) => "mounted_file",
        Some(Target::Argument(_)) => "argument",
        Some(Target::Header(_)) | None => return,
    };
    violations.add(target, ONLY_IN_HEADERS);
}

#[cfg(test)]
mod tests {
    use pb::{ArgumentTarget, InstallFieldSource, InstallFieldType, StreamableHttpTransport, injection::Kind};
    use service_kit::egress::EgressPolicy;

    use super::{
        super::{
            EntrySpec,
            tests::{credential, entry, env, field, file, header, hosted, wrong},
        },
        *,
    };

    fn with(tenancy: i32, fields: Vec<InstallField>) -> pb::Entry {
        let transport = Transport::StreamableHttp(StreamableHttpTransport {
            tenancy,
            ..StreamableHttpTransport::default()
        });
        entry(hosted(Some(transport)), fields)
    }

    fn shared(fields: Vec<InstallField>) -> pb::Entry {
        with(Tenancy::Shared.into(), fields)
    }

    fn argument() -> Option<Target> {
        Some(Target::Argument(ArgumentTarget::default()))
    }

    #[test]
    fn a_process_for_each_installation_is_the_default() {
        let parse = |entry| EntrySpec::parse(entry, &EgressPolicy::default()).unwrap();
        let default = parse(with(0, vec![]));
        assert_eq!(default, parse(with(Tenancy::OnePerInstallation.into(), vec![])));
        assert!(default.has_own_runtimes());
        let shared = parse(shared(vec![]));
        assert!(!shared.has_own_runtimes() && !shared.runs_as(&default));
        assert_eq!(wrong(with(99, vec![])), ["entry.self_hosted.streamable_http.tenancy"]);
        // An edit of the texts of an entry from before the field existed makes no entry revision.
        let mut before = default.message().clone();
        before.server = with(0, vec![]).server;
        if let Some(Server::SelfHosted(server)) = &mut before.server
            && let Some(Transport::StreamableHttp(http)) = &mut server.transport
        {
            "/mcp".clone_into(&mut http.path);
        }
        assert!(default.runs_as(&EntrySpec::from_stored(before)));
    }

    #[test]
    fn names_each_value_that_would_go_to_the_process_of_all() {
        use InstallFieldType::{File, Secret, String as Text};
        let fields = vec![
            field("a", Text, env("A")),
            field("b", File, file("b")),
            field("c", Text, argument()),
            field("d", Secret, header("x-d")),
        ];
        let places = ["[0].environment_variable", "[1].mounted_file", "[2].argument"];
        assert_eq!(
            wrong(shared(fields.clone())),
            places.map(|place| format!("entry.install_fields{place}"))
        );
        let own = with(Tenancy::OnePerInstallation.into(), fields.clone());
        assert_eq!(wrong(own), Vec::<String>::new());
        let stored = fields.into_iter().map(|mut field| {
            field.set_source(InstallFieldSource::Stored);
            field
        });
        assert_eq!(wrong(shared(stored.collect())), Vec::<String>::new());
    }

    #[test]
    fn a_credential_is_sent_with_each_request() {
        let mut entry = shared(vec![field("token", InstallFieldType::Secret, None)]);
        entry.credential_model = credential("token", Some(Kind::Bearer(pb::BearerHeader {})));
        assert_eq!(wrong(entry), Vec::<String>::new());
    }
}

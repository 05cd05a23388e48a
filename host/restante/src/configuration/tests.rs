//! Files that can be used, and what is said of those that cannot.

use super::*;

fn parse(text: &str) -> Result<Configuration, String> {
    Configuration::parse(Path::new("restante.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn the_documented_example_is_valid() {
    let configuration = parse(
        r#"
        data = "restante-data"
        [sip]
        listen = ["udp:127.0.0.1:5060", "tcp:[::1]:5060"]
        advertise = "sip.example.org"
        outbound = "udp:192.0.2.1:5060"
        [msrp]
        listen = ["tcp:127.0.0.1:2855"]
        web_socket_listen = ["ws:127.0.0.1:8080"]
        [msrp.relay]
        uri = "msrps://relay.example.org:2855;tcp"
        username = "restante"
        password_file = "/etc/restante/relay.password"
        [admin]
        listen = "127.0.0.1:8085"
        [tenants.example]
        domains = ["example.org"]
        trust = ["127.0.0.0/8", "::1"]
        [tenants.example.settings]
        few = 3
        "#,
    )
    .unwrap();
    assert_eq!(configuration.sip.listen[1].to_string(), "tcp:[::1]:5060");
    assert!(configuration.tenants["example"].trust[0].is_at("127.9.9.9".parse().unwrap()));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, expected) in [
        ("[sip]\nlissten = []\n", vec!["line 2, column 1", "unknown field `lissten`", "`listen`"]),
        ("[sip]\nlisten = [\"udp:127.0.0.1\"]\n", vec!["line 2", "expected \"udp:HOST:PORT\""]),
        ("[tenants.a]\ndomains = [\"a.org\"]\ntrust = [\"10.0.0.0/33\"]\n", vec!["line 3", "0 to 32"]),
        ("[tenants.a]\n", vec!["line 1", "missing field `domains`"]),
        ("[msrp]\nlisten = [\"udp:127.0.0.1:1\"]\n", vec!["line 2, column 10", "MSRP runs over TCP"]),
        ("[sip]\nlisten = [\"tls:127.0.0.1:5061\"]\n", vec!["line 2, column 10", "tls.certificate and tls.key"]),
        ("[sip]\nlisten = [\"wss:127.0.0.1:443\"]\n", vec!["line 2, column 10", "tls.certificate and tls.key"]),
        ("[sip]\noutbound = \"ws:192.0.2.1:80\"\n", vec!["line 2", "expected \"udp:HOST:PORT\""]),
        ("[sip]\nweb_origins = [\"https://a.org/\"]\n", vec!["line 2, column 16", "https://phone.example.org"]),
        ("[tls]\ncertificate = \"a.pem\"\n", vec!["line 2, column 15", "needs tls.key"]),
        ("[tls]\nclient_certificates = \"require\"\n", vec!["line 2, column 23", "needs tls.client_authorities"]),
        ("[tls]\nclient_authorities = \"a.pem\"\n", vec!["line 2, column 22", "tls.client_certificates"]),
        ("[tls]\nclient_certificates = \"maybe\"\n", vec!["line 2, column 23", "`request`"]),
        (
            "[tenants.a]\ndomains = [\"a.org\"]\ntrust = [\"tls:*.example.org\"]\n",
            vec!["line 3", "tls:*.example.org", "one host name"],
        ),
        ("[msrp]\nlisten = [\"tls:127.0.0.1:2856\"]\n", vec!["line 2, column 10", "tls.certificate and tls.key"]),
        ("[msrp]\nweb_socket_listen = [\"tcp:127.0.0.1:1\"]\n", vec!["line 2, column 21", "\"wss:HOST:PORT\""]),
        (
            "[msrp.relay]\nuri = \"msrp://relay.example.org/session;tcp\"\nusername = \"a\"\npassword_file = \"b\"\n",
            vec!["line 2", "expected the URI of a relay"],
        ),
        ("[msrp.relay]\nuri = \"msrps://relay.example.org;tcp\"\n", vec!["line 1", "missing field `username`"]),
        (
            "[[msrp.relay]]\nuri = \"msrps://a.org;tcp\"\nusername = \"a\"\npassword_file = \"b\"\n\
             [[msrp.relay]]\nuri = \"msrp://b.org;tcp\"\nusername = \"a\"\npassword_file = \"b\"\n",
            vec!["line 1", "msrps: of all relays or of none"],
        ),
        (
            "[[msrp.relay]]\nuri = \"msrps://a.org;tcp\"\nuser = \"a\"\npassword_file = \"b\"\n",
            vec!["line 3", "unknown field `user`"],
        ),
        ("[msrp]\nrelay = \"msrps://a.org;tcp\"\n", vec!["line 2, column 9", "expected a table, [msrp.relay]"]),
        ("[msrp]\noffer = \"tls\"\n", vec!["line 2, column 9", "no listener of that kind"]),
        ("[limits]\nmax_sessions = 0\n", vec!["line 2, column 16", "limits.max_sessions"]),
        (
            "[limits]\nmax_sessions = 9223372036854776\n",
            vec!["limits.max_sessions = 9223372036854776", "from 1 to 9223372036854775"],
        ),
        ("[limits]\nmax_sessions = \"many\"\n", vec!["line 2, column 16", "expected a whole number"]),
        (
            "[limits]\nmax_sip_header_bytes = 262144\n",
            vec!["line 2, column 24", "expected less than max_sip_message_bytes, which is 262144"],
        ),
        (
            "[tenants.a]\ndomains = [\"a.org\"]\nlimits = { max_sessions = 1.5 }\n",
            vec!["line 3, column 27", "expected a whole number"],
        ),
        (
            "[tenants.a]\ndomains = [\"a.org\"]\n[tenants.a.limits]\nmax_stored = 1\n",
            vec!["line 4, column 1", "unknown field `max_stored`", "`max_stored_messages`"],
        ),
        (
            "[tenants.a]\ndomains = [\"a.org\"]\nlimits = { max_sessions = 0 }\n",
            vec!["line 3, column 27", "tenants.a.limits.max_sessions = 0", "a whole number from 1 to"],
        ),
        (
            "[limits]\nmax_policy_memory_bytes = 65536\n[tenants.a]\ndomains = [\"a.org\"]\n\
             [tenants.a.limits]\nmax_policy_memory_bytes = 65537\n",
            vec!["line 6, column 27", "tenants.a.limits.max_policy_memory_bytes", "at most 65536"],
        ),
        (
            "[tenants.a]\ndomains = [\"a.org\"]\nnumbers = [\"1555\"]\n",
            vec!["line 3, column 12", "tenants.a.numbers", "\"+1555\""],
        ),
        ("[tenants.a]\ndomains = [\"a org\"]\n", vec!["line 2, column 12", "tenants.a.domains", "host name"]),
        (
            "[tenants.a]\ndomains = [\"a.org\"]\npolicy = \"/no/such.wasm\"\n",
            vec!["line 3, column 10", "/no/such.wasm", "\"standard\" or the path of a component"],
        ),
        (
            "[tenants.a]\ndomains = [\"a.org\"]\nauthentication = \"basic\"\n",
            vec!["line 3, column 18", "unknown variant `basic`", "`digest`"],
        ),
        (
            "[tenants.a]\ndomains = [\"a.org\"]\n[tenants.a.digest]\nalgorithms = [\"SHA-1\"]\n",
            vec!["line 4", "\"SHA-1\" is not an algorithm", "\"SHA-256\""],
        ),
        (
            "[tenants.a]\ndomains = [\"a.org\"]\n[tenants.a.digest]\nalgorithms = []\n",
            vec!["line 4, column 14", "tenants.a.digest.algorithms", "at least one"],
        ),
        (
            "[tenants.a]\ndomains = [\"a.org\"]\ndigest = { realm = \"\" }\n",
            vec!["line 3, column 20", "tenants.a.digest.realm"],
        ),
        ("[sip]\nlisten = [\"udp:0.0.0.0:5060\"]\n", vec!["sip.listen", "sip.advertise"]),
        ("[sip]\nkeep_headers = [\"X-A\", \"p-b\"]\n", vec!["line 2, column 16", "sip.keep_headers", "\"p-b\""]),
        ("[sip]\nkeep_headers = [\"From\"]\n", vec!["sip.keep_headers", "\"From\""]),
        ("[sip]\nkeep_headers = [\"A B\"]\n", vec!["sip.keep_headers", "\"A B\""]),
        ("[msrp]\nlisten = [\"tcp:[::]:2855\"]\n", vec!["msrp.listen", "msrp.advertise"]),
        (
            "[tenants.a]\ndomains = [\"a.org\"]\nhand_over = { sms = \"gateway.example.org\" }\n",
            vec!["line 3, column 21", "tenants.a.hand_over.sms", "an address or a name"],
        ),
        (
            "[tenants.a]\ndomains = [\"x.org\"]\n[tenants.b]\ndomains = [\"X.org\"]\n",
            vec!["line 4, column 12", "tenants.b", "belongs to tenants.a"],
        ),
    ] {
        let error = parse(text).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "{text:?}: {part:?} is not in {error:?}");
        }
    }
}

#[test]
fn targets_are_addresses_and_names_that_can_be_looked_for() {
    let with = |uri: &str| parse(&format!("[tenants.a]\ndomains = [\"a.org\"]\nhand_over = {{ sms = {uri:?} }}\n"));
    for uri in [
        "sip:192.0.2.9:5060;transport=tcp",
        "sip:[2001:db8::9]",
        "sip:gateway.example.org",
        "sip:sms@gateway.example.org:5070;transport=UDP;lr",
        "sips:gateway.example.org",
        "sip:kamailio;transport=tls",
    ] {
        assert!(with(uri).is_ok(), "{uri}: {:?}", with(uri).err());
    }
    for uri in [
        "",
        "gateway.example.org",
        "tel:+15550100",
        "sip:192.0.2.999",
        "sip:gate way.example.org",
        "sip:-gateway.example.org",
        "sip:gateway..example.org",
        "sip:gateway.example.org;transport=ws",
        "sip:gateway.example.org;transport=sctp",
        "sip:gateway.example.org?Subject=x",
    ] {
        let error = with(uri).expect_err(uri);
        assert!(error.contains("tenants.a.hand_over.sms"), "{uri}: {error}");
    }
}

#[test]
fn what_a_tenant_does_not_say_it_has_of_the_server() {
    let text = "[limits]\nmax_decision_milliseconds = 7\nmax_sessions = 100\n[tenants.a]\ndomains = [\"a.org\"]\n\
                [tenants.b]\ndomains = [\"b.org\"]\n[tenants.b.limits]\nmax_decision_milliseconds = 9\n\
                max_sessions = 3\nmax_stored_messages = 5\n";
    let configuration = parse(text).unwrap();
    let [a, b] = ["a", "b"].map(|name| configuration.tenants[name].limits.bounds(&configuration.limits));
    assert_eq!((a.max_decision_milliseconds, a.max_sessions), (7, 100));
    assert_eq!((b.max_decision_milliseconds, b.max_sessions, b.max_stored_messages), (9, 3, 5));
    assert_eq!((a.max_policy_memory_bytes, a.max_decisions_at_once), (16 << 20, None));
}

#[test]
fn tables_that_need_a_restart_are_named() {
    let one = parse("[sip]\nupstream_failure_header = \"X\"\n").unwrap();
    let other = parse("[limits]\nmax_sessions = 3\n[tenants.a]\ndomains = [\"a.org\"]\n").unwrap();
    assert_eq!(one.fixed_tables_changed(&other), ["[sip]", "[limits]"]);
    assert_eq!(one.fixed_tables_changed(&one.clone()), [""; 0]);
}

#[test]
fn trust_by_address_on_an_open_port_is_warned_of() {
    let open = parse(
        "[sip]\nlisten = [\"udp:192.0.2.1:5060\"]\n[tenants.a]\ndomains = [\"a.org\"]\ntrust = [\"10.0.0.0/8\"]\n",
    );
    assert_eq!(open.unwrap().warnings().len(), 1);
    assert!(Configuration::default().warnings().is_empty());
}

#[test]
fn web_sockets_from_every_page_and_tls_one_way_are_warned_of() {
    const TLS: &str = "[tls]\ncertificate = \"a.pem\"\nkey = \"a.key\"\n";
    let web = "[sip]\nlisten = [\"udp:127.0.0.1:5060\", \"ws:127.0.0.1:80\"]\n";
    let tls = "[sip]\nlisten = [\"udp:127.0.0.1:5060\", \"tls:127.0.0.1:5061\"]\n";
    let outbound = "outbound = \"tls:core.example.net\"\n";
    let tenant =
        "[tenants.a]\ndomains = [\"a.org\"]\nhand_over = { sms = \"sips:192.0.2.1\", fax = \"sip:192.0.2.1\" }\n";
    for (text, expected) in [
        (web.to_owned(), vec!["ws:127.0.0.1:80 accepts WebSockets from any web page"]),
        (format!("{web}web_origins = [\"https://a.org\"]\n"), vec![]),
        (format!("[sip]\n{outbound}"), vec!["sip.outbound leads over TLS"]),
        (tenant.to_owned(), vec!["tenants.a.hand_over.sms leads over TLS"]),
        (format!("{tls}{outbound}{TLS}{tenant}"), vec![]),
    ] {
        let warnings = parse(&text).unwrap().warnings();
        assert_eq!(warnings.len(), expected.len(), "{text}: {warnings:?}");
        assert!(expected.iter().zip(&warnings).all(|(part, warning)| warning.contains(part)), "{warnings:?}");
    }
}

#[test]
fn msrp_that_is_asked_unencrypted_or_has_no_name_is_warned_of() {
    let relay =
        |uri: &str| format!("[[msrp.relay]]\nuri = \"{uri}\"\nusername = \"us\"\npassword_file = \"password\"\n");
    let web = |listen: &str, host: &str| {
        format!(
            "[msrp]\nadvertise = \"{host}\"\nweb_socket_listen = [\"{listen}\"]\n[sip]\nweb_origins = [\"https://a.org\"]\n"
        )
    };
    let (plain, no_name) = ("accepts clients over the network without encryption", "msrp.advertise is not a name");
    for (text, expected) in [
        (relay("msrps://relay.example.org;tcp"), vec![]),
        (relay("msrp://127.0.0.1:2855;tcp"), vec![]),
        (relay("msrp://relay.example.org;tcp"), vec!["is used without encryption"]),
        (web("ws:127.0.0.1:80", "192.0.2.1"), vec![]),
        (web("ws:192.0.2.1:80", "msrp.example.org"), vec![plain]),
        (web("ws:192.0.2.1:80", "192.0.2.1"), vec![plain, no_name]),
        (web("ws:192.0.2.1:80", "[2001:db8::1]:2855"), vec![plain, no_name]),
    ] {
        let warnings = parse(&format!("{text}[tenants.a]\ndomains = [\"a.org\"]\n")).unwrap().warnings();
        assert_eq!(warnings.len(), expected.len(), "{text}: {warnings:?}");
        assert!(expected.iter().zip(&warnings).all(|(part, warning)| warning.contains(part)), "{warnings:?}");
    }
}

#[test]
fn an_administration_that_others_can_listen_to_is_warned_of() {
    for (address, is_open) in
        [("127.0.0.1:8085", false), ("[::1]:8085", false), ("0.0.0.0:8085", true), ("10.0.0.1:8085", true)]
    {
        let warnings = parse(&format!("[admin]\nlisten = \"{address}\"\n[tenants.a]\ndomains = [\"a.org\"]\n"))
            .unwrap()
            .warnings();
        assert_eq!(
            warnings.iter().any(|warning| warning.contains("without encryption")),
            is_open,
            "{address}: {warnings:?}"
        );
    }
}

#[test]
fn components_that_no_memory_holds_are_not_allowed() {
    let with = |bytes: u64| parse(&format!("[limits]\nmax_policy_bytes = {bytes}\n"));
    assert!(with(256 << 20).is_ok());
    let error = with(5_000_000_000_000).unwrap_err().to_string();
    assert!(error.contains("limits.max_policy_bytes = 5000000000000: expected at most 268435456"), "{error}");
}

/// Keys and defaults of the table under a heading of the operator's guide.
fn told<'a>(guide: &'a str, heading: &str) -> BTreeMap<&'a str, &'a str> {
    let (_, section) = guide.split_once(&format!("\n### `{heading}`\n")).unwrap();
    let (section, _) = section.split_once("\n### ").unwrap();
    let row = |line: &'a str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((cells.next()?.trim_end_matches('`'), cells.next()?))
    };
    section.lines().filter_map(row).collect()
}

#[test]
fn limits_are_what_the_operators_guide_says() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating.md");
    let guide = std::fs::read_to_string(place).unwrap();
    let server = Limits::default();
    let known: BTreeMap<&str, String> = server.all().into_iter().map(|(name, it)| (name, it.to_string())).collect();
    let known: BTreeMap<&str, &str> = known.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(told(&guide, "[limits]"), known);
    let tenant = TenantLimits::default().bounds(&server);
    let numbers: BTreeMap<&str, u64> = told(&guide, "[tenants.NAME.limits]")
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
        .collect();
    let expected = [
        ("max_deliveries_in_flight", tenant.max_deliveries_in_flight),
        ("max_log_lines_per_second", tenant.max_log_lines_per_second),
        ("max_stored_bytes", tenant.max_stored_bytes),
        ("max_stored_messages", tenant.max_stored_messages),
    ];
    assert_eq!(numbers, BTreeMap::from(expected));
}

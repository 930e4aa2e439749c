//! What a node says of itself: `nsid`, `version` and `hostname` of `[server]`.

use shared::settings::Table;

use crate::answer::Identity;

/// The identity in `server`.
pub(super) fn read_identity(server: &Table<'_>) -> Identity {
    let text = |key: &str, len_max: usize| {
        let expected = format!("a text of 1 to {len_max} octets");
        let fits = |text: &str| (1..=len_max).contains(&text.len()).then(|| text.into());
        server.value(key).and_then(|value| value.parsed_as(&expected, fits))
    };
    Identity {
        nsid: text("nsid", Identity::NSID_LEN_MAX),
        version: text("version", STRING_LEN_MAX),
        hostname: text("hostname", STRING_LEN_MAX),
    }
}

/// A character-string holds no more (RFC 1035, section 3.3).
const STRING_LEN_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    fn parse(lines: &str) -> Result<Settings, Vec<String>> {
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:53\"]\n{lines}\n[[zones]]\nname = \"example.com\"\nfile = \"z\"\n"
        );
        let found = Settings::parse("t", &text);
        found.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_not_given_is_not_said() {
        let identity = parse("nsid = \"node1\"\nhostname = \"n\"").expect("right").server.identity;
        assert_eq!((identity.nsid.as_deref(), identity.hostname.as_deref()), (Some("node1"), Some("n")));
        assert_eq!(identity.version, None);
    }

    #[test]
    fn texts_that_do_not_fit_are_refused() {
        let long = "x".repeat(256);
        let found = parse(&format!("nsid = \"\"\nversion = \"{long}\"\nhostname = 1")).expect_err("mistakes");
        for (at, (key, len_max)) in [("nsid", 128), ("version", 255), ("hostname", 255)].into_iter().enumerate() {
            assert!(found[at].starts_with(&format!("t:{}: server.{key}: ", at + 3)), "{found:?}");
            assert!(found[at].ends_with(&format!(" is not a text of 1 to {len_max} octets")), "{found:?}");
        }
    }
}

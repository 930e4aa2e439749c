//! Becoming `server.user`, and whether that may do what a node must: judged alike by `serve`, which goes on, and by `check`.

use super::{PrivilegeError, StartError, bind};
use crate::journal;
use crate::reload::World;
use shared::problem::Problem;

/// Becomes `server.user` of `world` for good, where there is one, and looks whether the journals can be written then.
pub(crate) fn take(world: &World) -> Result<(), StartError> {
    if let Some(user) = &world.settings.server.user {
        let taken = bind::become_user(user);
        if let Err(error @ PrivilegeError::UnknownUser { .. }) = &taken {
            let key = "server.user";
            return Err(StartError::Problems(vec![world.lines.problem(key, &[key], error)]));
        }
        taken?;
    }
    let problem = |file: String, what| Problem { file, line: None, key: String::new(), what };
    let journals = world.journals.iter().map(|zone| &zone.path);
    let problems = journals.filter_map(|path| Some(problem(path.display().to_string(), journal::hindrance(path)?)));
    let problems: Vec<Problem> = problems.collect();
    if problems.is_empty() { Ok(()) } else { Err(StartError::Problems(problems)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reload::load;
    use crate::serve::Node;
    use crate::serve::sample::Site;

    fn with(line: &str, replaced: &str) -> Site {
        let site = Site::new();
        site.write("topology.toml", &site.settings().replacen(line, &format!("{line}\n{replaced}"), 1));
        site
    }

    fn judged(site: &Site) -> StartError {
        take(&load(&site.config(), None).world.expect("no mistakes")).expect_err("refused")
    }

    #[test]
    fn user_that_serve_refuses_is_refused_before() {
        let site = with("[server]", "user = \"no-such-user-here\"");
        let (before, Err(serve)) = (judged(&site), Node::start(&site.config())) else { panic!("it started") };
        let expected = format!("{}:3: server.user: there is no user no-such-user-here", site.config().display());
        assert!(before.to_string().starts_with(&expected), "{before}");
        assert_eq!(before.to_string(), serve.to_string());
    }

    #[test]
    fn journal_that_serve_refuses_is_refused_before() {
        let site = with("file = \"example.com.zone\"", "journal = \"missing/journal\"");
        let (before, Err(serve)) = (judged(&site), Node::start(&site.config())) else { panic!("it started") };
        assert!(
            before.to_string().contains("/missing: expected one that the user of the server may write to"),
            "{before}"
        );
        assert_eq!(before.to_string(), serve.to_string());
    }
}

//! The credentials file of the AWS command: sections of keys by the name of a profile.
//!
//! Only keys that stand in it are read. A profile may instead name a role, a program or a single sign-on; those are
//! refused by name, for object_store cannot follow them.

use std::path::{Path, PathBuf};

use object_store::aws::AwsCredential;

use crate::environment::{CREDENTIALS_FILE, HOME, variable};
use crate::parameters::{UNPRINTABLE, is_printable};

/// The file, wherever the environment puts it.
pub(crate) fn file() -> Option<PathBuf> {
    if let Some(file) = variable(CREDENTIALS_FILE) {
        return Some(file.into());
    }
    variable(HOME).map(|home| Path::new(&home).join(".aws/credentials"))
}

/// The keys of a profile: `None` if the text has no such profile, an error if it is not made of keys.
pub(crate) fn find(text: &str, profile: &str) -> Option<Result<AwsCredential, String>> {
    let mut inside = false;
    let mut found = false;
    let (mut key_id, mut secret_key, mut token, mut other) = (None, None, None, None);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name.trim() == profile;
            found |= inside;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| inside) {
            let value = Some(value.trim().to_owned());
            match name.trim() {
                "aws_access_key_id" => key_id = value,
                "aws_secret_access_key" => secret_key = value,
                "aws_session_token" => token = value,
                name => other = Some(name.to_owned()),
            }
        }
    }
    let missing = || match other {
        Some(other) => format!("it has '{other}' and no keys"),
        None => "it has not both aws_access_key_id and aws_secret_access_key".to_owned(),
    };
    found.then(|| match (key_id, secret_key) {
        (Some(key_id), Some(secret_key)) => {
            let all = [Some(&key_id), Some(&secret_key), token.as_ref()];
            let good = all.into_iter().flatten().all(|text| is_printable(text));
            if good { Ok(AwsCredential { key_id, secret_key, token }) } else { Err(UNPRINTABLE.to_owned()) }
        }
        _ => Err(missing()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=S/+=\n\n[ work ]\r\n\
                        aws_access_key_id=B\r\naws_secret_access_key = T\naws_session_token = U\n; no\n\
                        [role]\nrole_arn = arn:x\n[half]\naws_access_key_id = C\n\
                        [odd]\naws_access_key_id = C\naws_secret_access_key = \u{e4}\n";

    #[test]
    fn a_profile_is_found_by_its_name() {
        let keys = |profile| {
            let found = find(FILE, profile).unwrap().unwrap();
            (found.key_id, found.secret_key, found.token)
        };
        assert_eq!(keys("default"), ("A".into(), "S/+=".into(), None));
        assert_eq!(keys("work"), ("B".into(), "T".into(), Some("U".into())));
        assert!(find(FILE, "absent").is_none());
    }

    #[test]
    fn what_is_not_keys_is_refused() {
        assert!(find(FILE, "role").unwrap().unwrap_err().contains("role_arn"));
        assert!(find(FILE, "odd").unwrap().unwrap_err().contains("character"));
        assert!(find(FILE, "half").unwrap().unwrap_err().contains("aws_secret_access_key"));
    }
}

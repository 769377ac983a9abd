//! A bundle for runc, with a program under test as its command.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::caller::Caller;
use crate::error::{Context, Error, Result};
use crate::program::Program;

/// Creates `bundle/` in a new directory: the configuration that `runc spec` writes, with `program arg…` as its
/// command, and the host's programs and libraries read-only. Returns the directory.
pub(crate) fn bundle(program: &Program, args: &[&str]) -> Result<PathBuf> {
    let directory = program.directory().join("runc");
    let bundle = directory.join("bundle");
    fs::create_dir_all(bundle.join("rootfs")).context("mkdir")?;
    let uid = program.environment().uid();
    for path in [&directory, &bundle, &bundle.join("rootfs")] {
        chown(path, uid, uid).context("chown")?;
    }
    let rootless = (program.caller() == Caller::Rootless).then_some("--rootless");
    let spec = ["spec", "--bundle", "bundle"].into_iter().chain(rootless);
    let mut spec = program.environment().command("runc", spec);
    let written = spec.current_dir(&directory).output().context("start runc")?;
    // It stays from an earlier run of the same program.
    let file = bundle.join("config.json");
    if !written.status.success() && !file.exists() {
        return Err(Error::new(format!("runc spec: {}", String::from_utf8_lossy(&written.stderr))));
    }
    let text = fs::read(&file).context("read config.json")?;
    let mut config: Value = serde_json::from_slice(&text)
        .map_err(|error| Error::new(format!("config.json: {error}")))?;
    let name = program.path().file_name().unwrap_or_default().to_string_lossy();
    let command = format!("/step/{name}");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!([&[command.as_str()], args].concat());
    let step = program.path().parent().unwrap_or(Path::new("/"));
    let host = ["/bin", "/sbin", "/lib", "/lib64", "/usr"].map(|path| (path, Path::new(path)));
    // A user namespace can't give up what the mount of a temporary directory forbids.
    let options = ["rbind", "ro", "nosuid", "nodev"];
    let bind = |(at, source): (&str, &Path)| json!({"destination": at, "type": "bind", "source": source, "options": options});
    if let Some(mounts) = config["mounts"].as_array_mut() {
        // A second run of the same program finds them there.
        mounts.retain(|mount| mount["type"] != "bind");
        let sources = host.into_iter().chain([("/step", step)]);
        mounts.extend(sources.filter(|(_, source)| source.exists()).map(bind));
    }
    fs::write(&file, config.to_string()).context("write config.json")?;
    Ok(directory)
}

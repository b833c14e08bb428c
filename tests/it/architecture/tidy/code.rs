//! Which files of the packages name which others, and which foreign crates? Read by syn from whole files, without what is
//! compiled for tests alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::visit::{self, Visit};

/// A path as it is written down, from the root of the library or from a foreign crate: `["crate", "wire", "Limits"]`.
type Names = Vec<String>;

/// A package of this repository. The library's has no name.
pub struct Package {
    pub name: &'static str,
    /// As others `use` it.
    pub krate: &'static str,
    pub sources: &'static str,
}

impl Package {
    /// A file's name as if its package were a module of the library: `cli/send.rs`, and `cli.rs` is its root.
    fn name_of(&self, file: &str, is_root: bool) -> String {
        match (self.name, is_root) {
            ("", _) => file.to_owned(),
            (name, true) => format!("{name}.rs"),
            (name, false) => format!("{name}/{file}"),
        }
    }

    fn root(&self) -> Names {
        ["crate", self.name].iter().filter(|name| !name.is_empty()).map(|&name| name.to_owned()).collect()
    }
}

/// The sources of all packages by such names, those of the library by their path: `policy/rego.rs`.
pub struct Code {
    files: BTreeMap<String, File>,
}

struct File {
    module: Names,
    /// Without comments that have a line of their own.
    text: String,
    /// What it names, and under which name it brings that in.
    named: BTreeSet<Names>,
    brought_in: BTreeMap<String, Names>,
}

impl Code {
    pub fn of(repository: &Path, packages: &'static [Package]) -> Self {
        let mut files = BTreeMap::new();
        for package in packages {
            let sources = repository.join(package.sources);
            let root = sources.join(if sources.join("lib.rs").exists() { "lib.rs" } else { "main.rs" });
            for path in below(&sources) {
                let name = path.strip_prefix(&sources).unwrap().to_string_lossy().into_owned();
                files.insert(package.name_of(&name, path == root), (path, package));
            }
        }
        let known: BTreeSet<Names> = files.keys().map(|name| module_of(name)).collect();
        let read = |(name, (path, package)): (String, (PathBuf, &Package))| {
            let text = fs::read_to_string(&path).unwrap();
            let syntax = syn::parse_file(&text).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
            let mut reader = Reader::of(module_of(&name), &known, package.root(), packages);
            reader.visit_file(&syntax);
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            reader.file.text = code.collect::<Vec<_>>().join("\n");
            (name, reader)
        };
        let mut read: BTreeMap<String, Reader<'_>> = files.into_iter().map(read).collect();
        // What is declared for tests alone is none of the program's.
        let test: BTreeSet<Names> =
            read.values_mut().flat_map(|file| std::mem::take(&mut file.test)).collect();
        read.retain(|_, file| !test.iter().any(|module| file.file.module.starts_with(module)));
        Self { files: read.into_iter().map(|(name, reader)| (name, reader.file)).collect() }
    }

    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    pub fn text(&self, file: &str) -> &str {
        &self.files[file].text
    }

    /// Whether a file names something of a foreign crate.
    pub fn names_crate(&self, file: &str, name: &str) -> bool {
        self.files[file].named.iter().any(|path| path[0] == name)
    }

    /// The files that each file names something of, itself left out.
    pub fn arrows(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let by_module: BTreeMap<&[String], &str> =
            self.files.iter().map(|(name, file)| (file.module.as_slice(), name.as_str())).collect();
        let of = |(name, file): (&'_ String, &'_ File)| -> BTreeSet<&str> {
            let found = file.named.iter().filter_map(|path| self.home(&by_module, path));
            found.filter(|other| other != name).collect()
        };
        self.files.iter().map(|(name, file)| (name.as_str(), of((name, file)))).collect()
    }

    /// The file in which what a path names is made. Where a module only hands it on, that is followed.
    fn home<'a>(&self, by_module: &BTreeMap<&[String], &'a str>, path: &[String]) -> Option<&'a str> {
        const HANDED_ON_MAX: usize = 8;
        let mut path = path.to_vec();
        for _ in 0..HANDED_ON_MAX {
            let depth = (1..=path.len()).rev().find(|depth| by_module.contains_key(&path[..*depth]))?;
            let file = by_module[&path[..depth]];
            let Some(next) = path.get(depth).and_then(|name| self.files[file].brought_in.get(name)) else {
                return Some(file);
            };
            path = next.iter().chain(&path[depth + 1..]).cloned().collect();
        }
        None
    }
}

/// All files of Rust in a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.chain(folders.iter().flat_map(|folder| below(folder))).collect()
}

/// `policy/rego.rs` is `crate::policy::rego`.
fn module_of(file: &str) -> Names {
    let path = file.trim_end_matches(".rs").split('/').filter(|part| !["lib", "mod"].contains(part));
    std::iter::once("crate").chain(path).map(str::to_owned).collect()
}

struct Reader<'a> {
    file: File,
    known: &'a BTreeSet<Names>,
    /// What `crate` is in this package.
    root: Names,
    packages: &'static [Package],
    /// The module that is read, which may stand within the file.
    at: Names,
    /// Modules that are there for tests alone.
    test: BTreeSet<Names>,
}

impl<'a> Reader<'a> {
    fn of(module: Names, known: &'a BTreeSet<Names>, root: Names, packages: &'static [Package]) -> Self {
        let (named, brought_in) = (BTreeSet::new(), BTreeMap::new());
        let file = File { module: module.clone(), text: String::new(), named, brought_in };
        Self { file, known, root, packages, at: module, test: BTreeSet::new() }
    }

    /// From the root, if a path's first name says where it begins: a keyword, a module below, or a foreign crate.
    fn absolute(&self, path: &[String]) -> Option<Names> {
        let (first, rest) = path.split_first()?;
        let begin = match first.as_str() {
            "crate" => self.root.clone(),
            "self" => self.at.clone(),
            "super" => {
                let mut above = self.at.clone();
                above.pop();
                let mut rest = rest;
                while let Some(("super", more)) = rest.split_first().map(|(name, more)| (name.as_str(), more))
                {
                    above.pop();
                    rest = more;
                }
                return Some(above.into_iter().chain(rest.iter().cloned()).collect());
            }
            name => {
                let below: Names = self.at.iter().cloned().chain([name.to_owned()]).collect();
                let package = self.packages.iter().find(|package| package.krate == name);
                match package {
                    _ if self.known.contains(&below) => below,
                    Some(package) => package.root(),
                    None => vec![name.to_owned()],
                }
            }
        };
        Some(begin.into_iter().chain(rest.iter().cloned()).collect())
    }

    fn name(&mut self, path: &[String]) {
        if path.len() > 1 {
            self.file.named.extend(self.absolute(path));
        }
    }

    fn bring_in(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Names>();
        match tree {
            syn::UseTree::Path(path) => self.bring_in(&with(&path.ident), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.bring_in(before, tree)),
            syn::UseTree::Glob(_) => self.file.named.extend(self.absolute(before)),
            syn::UseTree::Name(name) if name.ident == "self" => self.brought(before.to_vec(), before.last()),
            syn::UseTree::Name(name) => self.brought(with(&name.ident), Some(&name.ident.to_string())),
            syn::UseTree::Rename(name) => self.brought(with(&name.ident), Some(&name.rename.to_string())),
        }
    }

    fn brought(&mut self, path: Names, name: Option<&String>) {
        if let (Some(path), Some(name)) = (self.absolute(&path), name) {
            self.file.brought_in.insert(name.clone(), path.clone());
            self.file.named.insert(path);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if let syn::Item::Mod(module) = item {
            let below: Names = self.at.iter().cloned().chain([module.ident.to_string()]).collect();
            if for_tests(&module.attrs) {
                self.test.insert(below);
                return;
            }
            let above = std::mem::replace(&mut self.at, below);
            visit::visit_item_mod(self, module);
            self.at = above;
        } else if !for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.bring_in(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.name(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Names>());
        visit::visit_path(self, path);
    }

    /// What a macro is given is no syntax that syn knows: its paths are looked for.
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        let tokens = call.tokens.to_string().replace(" :: ", "::");
        let names = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for path in tokens.split(|c| !names(c)).filter(|word| word.contains("::")) {
            self.name(&path.split("::").map(str::to_owned).collect::<Names>());
        }
    }
}

/// `#[cfg(test)]`, alone or with other conditions that must hold.
fn for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let said = list.tokens.to_string();
        list.path.is_ident("cfg") && (said == "test" || said.starts_with("all") && said.contains("test"))
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(it) => &it.attrs,
        syn::Item::Enum(it) => &it.attrs,
        syn::Item::Fn(it) => &it.attrs,
        syn::Item::Impl(it) => &it.attrs,
        syn::Item::Macro(it) => &it.attrs,
        syn::Item::Static(it) => &it.attrs,
        syn::Item::Struct(it) => &it.attrs,
        syn::Item::Trait(it) => &it.attrs,
        syn::Item::Type(it) => &it.attrs,
        syn::Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

/// Files that lead to themselves through others of the same room, and the ones between them. A file says what
/// its folder has in common (`policy.rs` for `policy/`), so that what stands below may name it, and it those.
pub fn circles<'a>(arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut left: BTreeMap<&str, BTreeSet<&str>> = arrows
        .iter()
        .map(|(&file, named)| {
            let counts = |other: &&str| room(other) == room(file) && !is_below(file, other);
            (file, named.iter().copied().filter(counts).collect())
        })
        .collect();
    loop {
        let before = left.len();
        // Who names nobody who is left, or is named by nobody, is on no circle.
        let ends: BTreeSet<&str> =
            left.iter().filter(|(_, named)| named.is_empty()).map(|(&file, _)| file).collect();
        let named: BTreeSet<&str> = left.values().flatten().copied().collect();
        left.retain(|file, _| !ends.contains(file) && named.contains(file));
        for named in left.values_mut() {
            named.retain(|other| !ends.contains(other));
        }
        if left.len() == before {
            return left;
        }
    }
}

fn is_below(file: &str, other: &str) -> bool {
    file.strip_prefix(other.trim_end_matches(".rs")).is_some_and(|rest| rest.starts_with('/'))
}

/// The first part of a path: `policy` of `policy/rego.rs` and of `policy.rs`.
pub fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

//! A team generates a Java client from the contracts, with the template for Java and the commands of the README, and
//! lists entries. The other languages are in `generated_clients.rs`; this one requires a JDK and Maven.
//!
//! Tools: node, java

use integration_tests::{
    generated::{Client, has_listed_the_entry, registry_with_an_entry},
    tools::Tool,
};

#[tokio::test(flavor = "multi_thread")]
async fn java() {
    let maven = Tool::Java.path();
    let client = Client::generate("java", &[maven.join("bin")]).await;
    let libraries = format!("{}/*", maven.join("lib").display());
    let compile = ["-d", "out", "-cp", &libraries, "-sourcepath", "gen", "ListEntries.java"];
    let compiled = client.run("javac", &compile).await;
    assert!(compiled.success, "{}", compiled.stderr);
    let (stack, token) = registry_with_an_entry().await;
    let run = ["-cp", &format!("out:{libraries}"), "ListEntries", stack.grpc(), &token];
    has_listed_the_entry(&client.run("java", &run).await.json());
}

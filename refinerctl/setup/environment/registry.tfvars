# Stack registry in environment $name.
# The ECR repositories of [images.*] in refinerctl.toml.

region = "$region"

repositories = [
$repositories
]

tags = {
  Environment = "$name"
}

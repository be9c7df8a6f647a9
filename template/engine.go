package template

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/env"

	"github.com/relaywebhooks/relay"
)

// Bounds of the text of one expression, beside its size.
const (
	maxParserDepth = 40    // expressions within each other
	maxNodes       = 5_000 // after macros are expanded
	maxFaults      = 5     // that are told; what follows on the first is rarely worth reading
)

// engine is what all templates share: the language, and turns. It is only made
// where there is a template.
type engine struct {
	env *cel.Env
	// turns bounds how many webhooks are shaped at a time. It is all computing, so
	// that more of them than cores would take memory, and no less time.
	turns chan struct{}
}

// theEngine makes the one engine when it is first needed. It is never changed.
var theEngine = sync.OnceValues(func() (*engine, error) {
	e, err := cel.NewCustomEnv(
		cel.StdLib(cel.StdLibSubset(env.NewLibrarySubset().AddExcludedFunctions(
			&env.Function{Name: "matches"}, // a regular expression runs on where nothing can stop it
		))),
		cel.OptionalTypes(cel.OptionalTypesVersion(1)),
		functions(),
		cel.Variable("payload", cel.DynType),
		cel.Variable("body", cel.StringType),
		cel.Variable("id", cel.StringType),
		cel.Variable("event_type", cel.StringType),
		cel.Variable("tenant", cel.StringType),
		cel.Variable("endpoint", cel.StringType),
		cel.Variable("metadata", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("accepted", cel.TimestampType),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserRecursionLimit(maxParserDepth),
		cel.ParserErrorRecoveryLimit(0),
		cel.ParserExpressionSizeLimit(relay.MaxTemplate),
		cel.ExpressionNodeLimit(maxNodes),
	)
	if err != nil {
		return nil, fmt.Errorf("make the language: %w", err)
	}
	return &engine{env: e, turns: make(chan struct{}, runtime.GOMAXPROCS(0))}, nil
})

// compiler compiles the expressions of one template and collects the faults.
type compiler struct {
	*engine
	template *template
	faults   []error
}

// expression is one of a template's, ready to run.
type expression struct {
	field   string
	program cel.Program
	ast     *ast.AST // where the nodes that errors name are
}

func (c *compiler) expression(field, text string) *expression {
	if strings.TrimSpace(text) == "" {
		c.faults = append(c.faults, &Fault{Field: clip(field), Problem: "is empty"})
		return nil
	}
	parsed, issues := c.env.Parse(text)
	if issues.Err() == nil {
		if err := bound(parsed.NativeRep()); err != nil {
			c.faults = append(c.faults, &Fault{Field: clip(field), Problem: err.Error()})
			return nil
		}
		parsed, issues = c.env.Check(parsed)
	}
	for i, issue := range issues.Errors() {
		if i == maxFaults {
			break
		}
		where := fmt.Sprintf("line %d, column %d: ", issue.Location.Line(), issue.Location.Column()+1)
		if issue.Location.Line() < 1 {
			where = ""
		}
		c.faults = append(c.faults, &Fault{Field: clip(field), Problem: where + problem(issue.Message)})
	}
	if issues.Err() != nil {
		return nil
	}
	program, err := c.env.Program(parsed,
		cel.CostTracking(prices{}), cel.CostLimit(relay.MaxTemplateCost), cel.InterruptCheckFrequency(1))
	if err != nil {
		c.faults = append(c.faults, &Fault{Field: clip(field), Problem: problem(err.Error())})
		return nil
	}
	x := &expression{field: field, program: program, ast: parsed.NativeRep()}
	x.note(c.template)
	return x
}

// note tells the template what the expression needs of the webhook.
func (x *expression) note(t *template) {
	ast.PostOrderVisit(x.ast.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.IdentKind {
			return
		}
		switch e.AsIdent() {
		case "payload":
			t.needsPayload = true
		case "metadata":
			t.needsMetadata = true
		}
	}))
}

// problem is the first line of what CEL says about a text.
func problem(message string) string {
	message, _, _ = strings.Cut(message, "\n")
	message = strings.ReplaceAll(message, " (in container '')", "")
	message, _, _ = strings.Cut(message, " expecting {") // whatever an expression may begin with
	if message == "" {
		message = "cannot be compiled"
	}
	return clip(message)
}

var errNoMessages = errors.New("makes a message of Protocol Buffers; write a map, such as {'name': value}")

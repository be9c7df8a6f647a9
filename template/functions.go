package template

import (
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/relaywebhooks/relay"
)

// refusal is an error whose text holds nothing of the webhook.
type refusal string

func (r refusal) Error() string { return string(r) }

const (
	errLong     refusal = "makes more than 1 MiB of text"
	errMany     refusal = "makes more than 100,000 values"
	errLarge    refusal = "compares lists or maps that are too large"
	errPosition refusal = "a position is less than 0, or the second before the first"
	errStrings  refusal = "join needs a list of strings"
)

func refuse(r refusal) ref.Val { return types.WrapErr(r) }

// functions are those that CEL has not: some of its extension for strings, here
// with a look at the size of the result before it is made, and toJson and
// truncate.
func functions() cel.EnvOption {
	text, number, texts := cel.StringType, cel.IntType, cel.ListType(cel.StringType)
	a, b := cel.TypeParamType("A"), cel.TypeParamType("B")
	member := func(name, id string, args []*cel.Type, result *cel.Type, f func(...ref.Val) ref.Val) cel.EnvOption {
		return cel.Function(name, cel.MemberOverload(id, args, result, cel.FunctionBinding(f)))
	}
	options := []cel.EnvOption{
		member("replace", "string_replace", []*cel.Type{text, text, text}, text, replace),
		member("split", "string_split", []*cel.Type{text, text}, texts, split),
		member("join", "list_join", []*cel.Type{texts, text}, text, join),
		member("substring", "string_substring_from", []*cel.Type{text, number}, text, substring),
		member("substring", "string_substring", []*cel.Type{text, number, number}, text, substring),
		member("truncate", "string_truncate", []*cel.Type{text, number}, text, func(args ...ref.Val) ref.Val {
			return substring(args[0], types.IntZero, args[1])
		}),
		member("trim", "string_trim", []*cel.Type{text}, text, over(strings.TrimSpace)),
		member("lowerAscii", "string_lower", []*cel.Type{text}, text, over(ascii('A', 'Z'))),
		member("upperAscii", "string_upper", []*cel.Type{text}, text, over(ascii('a', 'z'))),
		cel.Function("toJson", cel.Overload("to_json", []*cel.Type{cel.DynType}, text, cel.FunctionBinding(toJSON))),
		cel.Function(weighed, cel.Overload("weighed", []*cel.Type{a}, a, cel.FunctionBinding(weigh))),
		cel.Function(built, cel.Overload("built", []*cel.Type{a}, a, cel.FunctionBinding(
			func(args ...ref.Val) ref.Val { return args[0] }))),
		cel.Function(inOrder,
			cel.Overload("in_order_list", []*cel.Type{cel.ListType(a)}, cel.ListType(a), cel.FunctionBinding(keys)),
			cel.Overload("in_order_map", []*cel.Type{cel.MapType(a, b)}, cel.ListType(a), cel.FunctionBinding(keys))),
	}
	return func(e *cel.Env) (*cel.Env, error) {
		var err error
		for _, option := range options {
			if e, err = option(e); err != nil {
				return nil, err
			}
		}
		return e, nil
	}
}

// str is an argument that the language has checked to be a string.
func str(v ref.Val) string {
	s, _ := v.(types.String)
	return string(s)
}

func over(f func(string) string) func(...ref.Val) ref.Val {
	return func(args ...ref.Val) ref.Val { return types.String(f(str(args[0]))) }
}

// ascii turns the letters between two into the other case, which is one bit.
func ascii(from, to byte) func(string) string {
	return func(s string) string {
		b := []byte(s)
		for i, c := range b {
			if from <= c && c <= to {
				b[i] = c ^ ('a' - 'A')
			}
		}
		return string(b)
	}
}

func replace(args ...ref.Val) ref.Val {
	s, from, to := str(args[0]), str(args[1]), str(args[2])
	if len(s)+strings.Count(s, from)*(len(to)-len(from)) > relay.MaxBody {
		return refuse(errLong)
	}
	return types.String(strings.ReplaceAll(s, from, to))
}

func split(args ...ref.Val) ref.Val {
	s, separator := str(args[0]), str(args[1])
	if strings.Count(s, separator) > relay.MaxTemplateValues {
		return refuse(errMany)
	}
	parts := strings.Split(s, separator)
	list := make([]ref.Val, len(parts))
	for i, part := range parts {
		list[i] = types.String(part)
	}
	return types.NewRefValList(types.DefaultTypeAdapter, list)
}

func join(args ...ref.Val) ref.Val {
	list, ok := args[0].(traits.Lister)
	if !ok {
		return refuse(errStrings)
	}
	separator := str(args[1])
	var b strings.Builder
	for i, it := 0, list.Iterator(); it.HasNext() == types.True; i++ {
		s, ok := it.Next().(types.String)
		if !ok {
			return refuse(errStrings)
		}
		if i > 0 {
			b.WriteString(separator)
		}
		// An empty list in a long one is no end either.
		if b.Len()+len(s) > relay.MaxBody || i > relay.MaxTemplateCost {
			return refuse(errLong)
		}
		b.WriteString(string(s))
	}
	return types.String(b.String())
}

// substring counts characters, as CEL does. It ends where the text ends.
func substring(args ...ref.Val) ref.Val {
	s := str(args[0])
	from, _ := args[1].(types.Int)
	to := max(from, types.Int(len(s)))
	if len(args) > 2 {
		to, _ = args[2].(types.Int)
	}
	if from < 0 || to < from {
		return refuse(errPosition)
	}
	begin, end, n := len(s), len(s), types.Int(0)
	for i := range s {
		if n == from {
			begin = i
		}
		if n == to {
			end = i
			break
		}
		n++
	}
	return types.String(s[min(begin, end):end])
}

func toJSON(args ...ref.Val) ref.Val {
	b, err := appendJSON(nil, args[0])
	if err != nil {
		return types.WrapErr(err)
	}
	return types.String(b)
}

// keys are those of a map in their order; a list is returned as it is.
func keys(args ...ref.Val) ref.Val {
	m, ok := args[0].(traits.Mapper)
	if !ok {
		return args[0]
	}
	var list []ref.Val
	for it := m.Iterator(); it.HasNext() == types.True; {
		list = append(list, it.Next())
	}
	slices.SortFunc(list, compare)
	return types.NewRefValList(types.DefaultTypeAdapter, list)
}

// compare puts keys of one type in their order, and types in that of their names.
func compare(a, b ref.Val) int {
	if x, ok := a.(traits.Comparer); ok && a.Type() == b.Type() {
		if n, ok := x.Compare(b).(types.Int); ok {
			return int(n)
		}
	}
	return strings.Compare(a.Type().TypeName(), b.Type().TypeName())
}
